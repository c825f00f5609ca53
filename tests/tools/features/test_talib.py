"""Features against TA-Lib on real prices, each under the convention that its catalogue entry states."""

from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from neural_trader_tools.features import catalogue
from neural_trader_tools.features.definitions import DEFINITIONS

talib: Any = pytest.importorskip("talib", reason="TA-Lib is in the dependency group `peers`")
Floats = NDArray[np.float64]

PAIRS: list[tuple[str, str, str, tuple[Any, ...], int]] = [
    # ours, TA-Lib's function, its inputs, its parameters, which of its outputs
    ("returns(5)", "ROCP", "c", (5,), 0),
    ("momentum(10)", "MOM", "c", (10,), 0),
    ("roc(10)", "ROC", "c", (10,), 0),
    ("sma(20)", "SMA", "c", (20,), 0),
    ("ema(20)", "EMA", "c", (20,), 0),
    ("wma(20)", "WMA", "c", (20,), 0),
    ("dema(20)", "DEMA", "c", (20,), 0),
    ("tema(20)", "TEMA", "c", (20,), 0),
    ("t3(5,0.7)", "T3", "c", (5, 0.7), 0),
    ("trima(20)", "TRIMA", "c", (20,), 0),
    ("trima(21)", "TRIMA", "c", (21,), 0),
    ("kama(10)", "KAMA", "c", (10,), 0),
    ("rsi(14)", "RSI", "c", (14,), 0),
    ("cmo(14)", "CMO", "c", (14,), 0),
    ("macd(12,26,9).line", "MACD", "c", (12, 26, 9), 0),
    ("macd(12,26,9).signal", "MACD", "c", (12, 26, 9), 1),
    ("macd(12,26,9).histogram", "MACD", "c", (12, 26, 9), 2),
    ("apo(12,26)", "APO", "c", (12, 26, 1), 0),
    ("ppo(12,26)", "PPO", "c", (12, 26, 1), 0),
    ("trix(15)", "TRIX", "c", (15,), 0),
    ("stochastic(14,3,3).k", "STOCH", "hlc", (14, 3, 0, 3, 0), 0),
    ("stochastic(14,3,3).d", "STOCH", "hlc", (14, 3, 0, 3, 0), 1),
    ("stochastic_fast(14,3).k", "STOCHF", "hlc", (14, 3, 0), 0),
    ("stochastic_fast(14,3).d", "STOCHF", "hlc", (14, 3, 0), 1),
    ("stochastic_rsi(14,5,3).k", "STOCHRSI", "c", (14, 5, 3, 0), 0),
    ("stochastic_rsi(14,5,3).d", "STOCHRSI", "c", (14, 5, 3, 0), 1),
    ("williams_r(14)", "WILLR", "hlc", (14,), 0),
    ("cci(20)", "CCI", "hlc", (20,), 0),
    ("ultimate_oscillator(7,14,28)", "ULTOSC", "hlc", (7, 14, 28), 0),
    ("balance_of_power", "BOP", "ohlc", (), 0),
    ("aroon(25).down", "AROON", "hl", (25,), 0),
    ("aroon(25).up", "AROON", "hl", (25,), 1),
    ("aroon(25).oscillator", "AROONOSC", "hl", (25,), 0),
    ("adx(14).adx", "ADX", "hlc", (14,), 0),
    ("adx(14).plus_di", "PLUS_DI", "hlc", (14,), 0),
    ("adx(14).minus_di", "MINUS_DI", "hlc", (14,), 0),
    ("adx(14).dx", "DX", "hlc", (14,), 0),
    ("adxr(14)", "ADXR", "hlc", (14,), 0),
    ("sar(0.02,0.2)", "SAR", "hl", (0.02, 0.2), 0),
    ("true_range", "TRANGE", "hlc", (), 0),
    ("atr(14)", "ATR", "hlc", (14,), 0),
    ("natr(14)", "NATR", "hlc", (14,), 0),
    ("bbands(20,2).upper", "BBANDS", "c", (20, 2.0, 2.0), 0),
    ("bbands(20,2).middle", "BBANDS", "c", (20, 2.0, 2.0), 1),
    ("bbands(20,2).lower", "BBANDS", "c", (20, 2.0, 2.0), 2),
    ("rolling_max(20)", "MAX", "c", (20,), 0),
    ("rolling_min(20)", "MIN", "c", (20,), 0),
    ("midpoint(14)", "MIDPOINT", "c", (14,), 0),
    ("midprice(14)", "MIDPRICE", "hl", (14,), 0),
    ("stddev(5,2)", "STDDEV", "c", (5, 2.0), 0),
    ("variance(5)", "VAR", "c", (5,), 0),
    ("linear_regression(14).value", "LINEARREG", "c", (14,), 0),
    ("linear_regression(14).slope", "LINEARREG_SLOPE", "c", (14,), 0),
    ("linear_regression(14).intercept", "LINEARREG_INTERCEPT", "c", (14,), 0),
    ("linear_regression(14).angle", "LINEARREG_ANGLE", "c", (14,), 0),
    ("beta(5)", "BETA", "hl", (5,), 0),
    ("correlation(30)", "CORREL", "hl", (30,), 0),
    ("price_volume_correlation(20)", "CORREL", "cv", (20,), 0),
    ("obv", "OBV", "cv", (), 0),
    ("accumulation_distribution", "AD", "hlcv", (), 0),
    ("chaikin_oscillator(3,10)", "ADOSC", "hlcv", (3, 10), 0),
    ("mfi(14)", "MFI", "hlcv", (14,), 0),
    ("wilder_average(14)", "RMA", "c", (14,), 0),
    ("zlema(20)", "ZLEMA", "c", (20,), 0),
    ("zlema(21)", "ZLEMA", "c", (21,), 0),
    ("hma(20)", "HMA", "c", (20,), 0),
    ("vwma(20)", "VWMA", "cv", (20,), 0),
    ("efficiency_ratio(10)", "ER", "c", (10,), 0),
    ("average_price", "AVGPRICE", "ohlc", (), 0),
    ("median_price", "MEDPRICE", "hl", (), 0),
    ("typical_price", "TYPPRICE", "hlc", (), 0),
    ("weighted_close", "WCLPRICE", "hlc", (), 0),
    ("mama(0.5,0.05).mama", "MAMA", "c", (0.5, 0.05), 0),
    ("mama(0.5,0.05).fama", "MAMA", "c", (0.5, 0.05), 1),
    ("dominant_cycle.period", "HT_DCPERIOD", "c", (), 0),
    ("dominant_cycle.inphase", "HT_PHASOR", "c", (), 0),
    ("dominant_cycle.quadrature", "HT_PHASOR", "c", (), 1),
    ("hilbert.phase", "HT_DCPHASE", "c", (), 0),
    ("hilbert.sine", "HT_SINE", "c", (), 0),
    ("hilbert.lead", "HT_SINE", "c", (), 1),
    ("hilbert.trendline", "HT_TRENDLINE", "c", (), 0),
    ("hilbert.trend", "HT_TRENDMODE", "c", (), 0),
    ("intraday_momentum(14)", "IMI", "oc", (14,), 0),
    ("awesome_oscillator(5,34)", "AO", "hl", (5, 34), 0),
    ("true_strength(25,13)", "TSI", "c", (25, 13), 0),
    ("elder_ray(13).bull", "ERI", "hlc", (13,), 0),
    ("elder_ray(13).bear", "ERI", "hlc", (13,), 1),
    ("force_index(13)", "EFI", "cv", (13,), 0),
    ("directional_movement(14).plus", "PLUS_DM", "hl", (14,), 0),
    ("directional_movement(14).minus", "MINUS_DM", "hl", (14,), 0),
    ("vortex(14).plus", "VORTEX", "hlc", (14,), 0),
    ("vortex(14).minus", "VORTEX", "hlc", (14,), 1),
    ("rolling_sum(30)", "SUM", "c", (30,), 0),
    ("mean_deviation(14)", "AVGDEV", "c", (14,), 0),
    ("linear_regression(14).forecast", "TSF", "c", (14,), 0),
    ("acceleration_bands(20).upper", "ACCBANDS", "hlc", (20,), 0),
    ("acceleration_bands(20).middle", "ACCBANDS", "hlc", (20,), 1),
    ("acceleration_bands(20).lower", "ACCBANDS", "hlc", (20,), 2),
    ("donchian(20).upper", "DONCHIAN", "hl", (20,), 0),
    ("donchian(20).middle", "DONCHIAN", "hl", (20,), 1),
    ("donchian(20).lower", "DONCHIAN", "hl", (20,), 2),
    ("chaikin_money_flow(20)", "CMF", "hlcv", (20,), 0),
    ("relative_volume(20)", "RVOL", "v", (20,), 0),
]

COLUMNS = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume"}
SHOWN_EARLIER = {"stochastic", "stochastic_fast", "stochastic_rsi"}
"""TA-Lib shows %K only where %D is defined too; adx's parts and DX start where they are defined, as ours."""


@pytest.mark.parametrize("symbol", ["AAPL", "IBM"])
@pytest.mark.parametrize(("ours", "function", "inputs", "params", "output"), PAIRS)
def test_a_feature_equals_talibs(
    sample: Any, symbol: str, ours: str, function: str, inputs: str, params: tuple[Any, ...], output: int
) -> None:
    bars: pl.DataFrame = sample.bars(symbol)
    columns = [bars[COLUMNS[letter]].to_numpy().astype(np.float64) for letter in inputs]
    result = getattr(talib, function)(*columns, *params)
    theirs: Floats = np.asarray(
        result if isinstance(result, np.ndarray) else result[output], dtype=np.float64
    )
    values = catalogue.evaluate(ours, bars)
    if function == "HT_TRENDMODE":  # whole numbers, 0 where they are not defined yet
        theirs[: catalogue.parse(ours).lookback_bars] = np.nan
    defined: NDArray[np.bool_] = np.isfinite(theirs)
    first = int(np.argmax(defined))
    undefined: NDArray[np.bool_] = (
        np.isnan(values) & defined & (theirs == 0.0)
    )  # where ours says null, TA-Lib says 0
    assert int(undefined.sum()) <= 5
    both = defined & ~undefined
    scale = np.nanmax(np.abs(theirs[both]))
    np.testing.assert_allclose(values[both], theirs[both], rtol=1e-8, atol=1e-9 * scale)
    if catalogue.parse(ours).definition.name not in SHOWN_EARLIER:
        assert np.isnan(values[:first]).all()


def test_every_stated_convention_is_tested() -> None:
    tested = {catalogue.parse(ours).definition.name for ours, *_ in PAIRS}
    assert tested == {name for name, one in DEFINITIONS.items() if one.convention}
