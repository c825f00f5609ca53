"""RSS and Atom: what real ones look like, and what hostile, broken and odd ones do."""

import codecs
import html
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_trader_governance.errors import DataError
from neural_trader_governance.terms.clocks import parse_time
from neural_trader_tools.market.news.feeds import DEPTH_MAX, ITEMS_MAX, read_feed
from neural_trader_tools.market.news.markup import plain_text

# The example of RFC 4287, section 1.1, cut.
ATOM = b"""<?xml version="1.0" encoding="utf-8"?>
<feed xmlns="http://www.w3.org/2005/Atom">
  <title type="text">dive into mark</title>
  <updated>2005-07-31T12:29:29Z</updated>
  <id>tag:example.org,2003:3</id>
  <entry>
    <title>Atom draft-07 snapshot</title>
    <link rel="alternate" type="text/html" href="http://example.org/2005/04/02/atom"/>
    <link rel="enclosure" type="audio/mpeg" length="1337" href="http://example.org/audio/ph34r_my_podcast.mp3"/>
    <id>tag:example.org,2003:3.2397</id>
    <updated>2005-07-31T12:29:29Z</updated>
    <published>2003-12-13T08:29:29-04:00</published>
    <author><name>Mark Pilgrim</name></author>
    <content type="xhtml" xml:lang="en" xml:base="http://diveintomark.org/">
      <div xmlns="http://www.w3.org/1999/xhtml"><p><i>[Update: The Atom draft is finished.]</i></p></div>
    </content>
  </entry>
</feed>"""

# An item of the sample of the RSS 2.0 specification, and one with what feeds add to it.
RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/">
  <channel><title>Liftoff News</title><link>http://liftoff.msfc.nasa.gov/</link>
    <item>
      <title>Star City</title>
      <link>http://liftoff.msfc.nasa.gov/news/2003/news-starcity.asp</link>
      <description>How do Americans get ready to work with Russians aboard the International Space Station?
        They take a crash course in culture, language and protocol at Russia's &lt;a
        href="http://howe.iki.rssi.ru/GCTC/gctc_e.htm"&gt;Star City&lt;/a&gt;.</description>
      <pubDate>Tue, 03 Jun 2003 09:39:21 GMT</pubDate>
      <guid>http://liftoff.msfc.nasa.gov/2003/06/03.html#item573</guid>
    </item>
    <item>
      <description>short</description>
      <content:encoded><![CDATA[<p>P/E &lt; 10 &amp; falling</p><script>alert("x")</script>
        <p>İzmir</p>]]></content:encoded>
      <guid isPermaLink="false">two</guid>
      <pubDate>soon</pubDate>
    </item>
    <item><guid>three</guid></item>
  </channel>
</rss>"""

RDF = """<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"
 xmlns:dc="http://purl.org/dc/elements/1.1/"><channel/>
 <item><title>Old</title><link>http://a.example/1</link><dc:date>2026-01-02</dc:date></item></rdf:RDF>"""


def rss(items: str) -> bytes:
    return f"<rss><channel>{items}</channel></rss>".encode()


def test_atom_is_read_as_its_standard_has_it() -> None:
    [one] = read_feed(ATOM, ("AAPL",)).articles
    assert (one.title, one.text) == ("Atom draft-07 snapshot", "[Update: The Atom draft is finished.]")
    assert (one.item_id, one.url) == ("tag:example.org,2003:3.2397", "http://example.org/2005/04/02/atom")
    assert one.published == parse_time("2003-12-13T12:29:29Z")
    assert one.symbols == ("AAPL",)


def test_rss_is_read_without_its_markup_and_what_says_nothing_is_noted() -> None:
    feed = read_feed(RSS.encode())
    first, second = feed.articles
    assert first.text.endswith("language and protocol at Russia's Star City.")
    assert first.published == parse_time("2003-06-03T09:39:21Z")
    assert first.item_id == "http://liftoff.msfc.nasa.gov/2003/06/03.html#item573"
    assert (second.title, second.text) == ("", "P/E < 10 & falling\nİzmir")
    assert (second.published, second.published_said, second.url) == (None, "soon", "")
    assert feed.notes == [
        "1 items have neither a title nor a text",
        "1 times of publication could not be read: that of the receipt was taken",
    ]


def test_a_date_alone_is_taken_as_its_end_so_that_nobody_reads_at_noon_what_came_out_at_night() -> None:
    [one] = read_feed(RDF.encode()).articles
    assert one.published == parse_time("2026-01-02T23:59:59.999999Z")
    [there] = read_feed(RDF.encode(), zone="America/New_York").articles
    assert there.published == parse_time("2026-01-03T04:59:59.999999Z")


@pytest.mark.parametrize("name", ["utf-8", "utf-16", "iso-8859-15", "windows-1252", "shift_jis"])
def test_the_encodings_of_real_feeds_are_read(name: str) -> None:
    word = "売り" if name == "shift_jis" else "Börse €"
    document = f'<?xml version="1.0" encoding="{name}"?><rss><item><title>{word}</title></item></rss>'
    [one] = read_feed(document.encode(name)).articles
    assert one.title == word
    [marked] = read_feed(codecs.BOM_UTF8 + rss("<item><title>Börse</title></item>")).articles
    assert marked.title == "Börse"


def test_bytes_that_are_no_letters_are_replaced_and_noted() -> None:
    feed = read_feed(rss("<item><title>B@rse</title></item>").replace(b"@", b"\xf6"))
    assert feed.articles[0].title == "B\ufffdrse"
    assert feed.notes == ["bytes that are no utf-8 were replaced"]


LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
BOMBS = [
    f'<!DOCTYPE rss [<!ENTITY l0 "ha">{LAUGHS}]><rss><item><title>&l9;</title></item></rss>',
    f'<!DOCTYPE rss [<!ENTITY a "{"a" * 50_000}">]><rss><item><title>{"&a;" * 50_000}</title></item></rss>',
    '<!DOCTYPE rss [<!ENTITY f SYSTEM "file:///etc/hostname">]><rss><item><title>&f;</title></item></rss>',
    '<!DOCTYPE rss [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;]><rss/>',
    '<!DOCTYPE rss [<!ENTITY f PUBLIC "p" "file:///dev/zero">]><rss><item><title>&f;</title></item></rss>',
]


@pytest.mark.parametrize("document", BOMBS)
def test_a_document_that_declares_entities_is_refused_at_once(document: str) -> None:
    started = time.process_time()
    with pytest.raises(DataError) as refused:
        read_feed(document.encode())
    assert refused.value.code == "feed_entities"
    assert time.process_time() - started < 1


def test_an_external_definition_is_not_fetched() -> None:
    netscape = '<!DOCTYPE rss PUBLIC "-//Netscape//DTD RSS 0.91//EN" "http://127.0.0.1:1/rss.dtd">'
    [one] = read_feed(netscape.encode() + rss("<item><title>Old &amp; fine</title></item>")).articles
    assert one.title == "Old & fine"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "no element found"),
        (RSS.encode()[:700], "no element found"),
        (b"<html><body>no feed</body></html>", "'html', neither RSS nor Atom"),
        (b"<rss><item><title>&undefined;</title></item></rss>", "undefined entity"),
        (b"\x00\x01\x02" * 99, "no well-formed XML"),
        (b'{"title": "JSON"}', "no well-formed XML"),
        (b'<?xml version="1.0" encoding="rot13"?><rss/>', "'rot13' is none that feeds are read in"),
        (b'<?xml version="1.0" encoding="iso-8859-99"?><rss/>', "is not known here"),
        (b"<rss>" + b"<a>" * DEPTH_MAX, "nested deeper"),
    ],
)
def test_what_is_no_whole_feed_is_refused_with_the_reason(document: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as refused:
        read_feed(document)
    assert refused.value.code == "feed_malformed"


def test_items_and_their_words_are_bounded_and_that_is_said() -> None:
    many = read_feed(rss("<item><title>x</title></item>" * (ITEMS_MAX + 3)))
    assert len(many.articles) == ITEMS_MAX
    assert many.notes == [f"3 items beyond the first {ITEMS_MAX} were left out"]
    long = "word " * 200_000
    [one] = read_feed(rss(f"<item><title>{long}</title><description>{long}</description></item>")).articles
    assert (len(one.title), len(one.text), one.is_cut) == (500, 50_000, True)


@settings(max_examples=60, deadline=None)
@given(
    st.text(max_size=80), st.sampled_from(["{}", "<p class='x'>{}</p>", "<!-- <p> -->{}<script>x</script>"])
)
def test_words_come_back_out_of_any_markup_around_them(words: str, around: str) -> None:
    assert plain_text(around.format(html.escape(words))).removeprefix("\n").removesuffix("\n") == (
        words.removeprefix("\n").removesuffix("\n") if around == "{}" else words
    )


@pytest.mark.parametrize("piece", ["<", "<!", "<!--", "<a ", "<script>", "</", "&#", "<p", "<script></"])
def test_markup_that_never_closes_takes_no_more_time_than_its_length(piece: str) -> None:
    started = time.process_time()
    plain_text(piece * 100_000)
    assert time.process_time() - started < 2
