"""Rules: our own detector, a few dozen phrases that instructions to an agent cannot do without.

They were written from the public descriptions of prompt injection (OWASP LLM01), not from the sets
that they are measured on, whose figures are in docs/untrusted-text.md. Quick, explainable, easily
evaded by paraphrase: advice.
"""

import math
import re
from typing import Final

from neural_trader_governance.untrusted.detectors import Finding
from neural_trader_governance.untrusted.plain import clip, is_hidden, views

_PRIOR = r"(?:previous|prior|earlier|above|preceding|existing|original|former|past|initial|all|any|your|the)"
_ORDERS = (
    r"(?:instructions?|directions?|directives?|rules?|prompts?|guidelines?|commands?|orders?|constraints?"
    r"|polic(?:y|ies)|safeguards?|restrictions?|context|programming|training|tasks?)"
)
_DROP = (
    r"(?:ignore|disregard|forget|override|overrule|bypass|skip|discard|drop|cancel|void|abandon|set aside"
    r"|pay no attention to|do not follow|don't follow|stop following|no longer follow|supersedes?)"
)
_GAP = r"(?:\W+\w+){0,4}\W+"

# label: (weight in nats, pattern). A score of 0.5 is reached at a weight of 2.
_RULES: Final[dict[str, tuple[float, str]]] = {
    "override": (3.0, rf"\b{_DROP}\b{_GAP}(?:{_PRIOR}\W+)?(?:\w+\W+)?{_ORDERS}\b"),
    "override_short": (
        2.2,
        rf"\b(?:ignore|disregard|forget) (?:all|everything|anything|whatever)\b|\b{_DROP} (?:the "
        rf"|all )?above\b",
    ),
    "override_foreign": (
        3.0,
        r"\b(?:ignor\w*|vergiss|missachte|olvida|oublie\w*|dimentica|esque\w+)\b(?:\W+\w+){0,4}\W+"
        r"(?:anweisung\w*|vorgaben|regeln|instruc+ion\w*|instrucoes|instruções|consignes|reglas|regles"
        r"|istruzioni"
        r"|regole|ordenes)\b|忽略.{0,8}(?:指令|指示|说明)|無視.{0,8}|(?:指示|命令).{0,6}無視|игнорир\w+",
    ),
    "new_orders": (
        2.4,
        r"\b(?:new|updated|revised|urgent|real|actual|important|additional|secret|hidden)\W+(?:system\W+)?"
        r"(?:instructions?|directives?|orders?|task|objective|goal|priority|message)\b\W*(?::|\*{2,}"
        r"|#{2,}|=>|are\b|is\b)",
    ),
    "from_now_on": (2.0, r"\bfrom (?:now|here|this point) (?:on|onwards?)\b|\byou (?:must|will|shall) now\b"),
    "persona": (
        2.2,
        r"\byou(?:'re| are) (?:now|no longer)\b|\b(?:act|behave|respond|operate|pretend|roleplay"
        r"|role-play)\W+"
        r"(?:as|like|to be|you are)\W+(?:if\W+)?(?:an?\W+|my\W+|the\W+)?(?:\w+\W+){0,3}"
        r"(?:unrestricted|unfiltered|uncensored|evil|jailbroken|developer mode|without (?:any )?"
        r"(?:rules|limits|restrictions|filters|guidelines)|dan\b)|\bdo anything now\b|\bdeveloper mode\b"
        r"|\b(?:jailbreak|god mode|sudo mode|debug mode|admin mode)\b",
    ),
    "extraction": (
        2.6,
        r"\b(?:reveal|print|repeat|show|output|display|leak|dump|disclose|tell me|give me|return|recite"
        r"|translate"
        r"|summari[sz]e|what (?:is|are|was|were))\b(?:\W+\w+){0,6}\W+(?:system\W+(?:prompt|message"
        r"|instructions?)"
        r"|(?:initial|original|hidden|secret|internal) (?:prompt|instructions?|message)|your (?:instructions"
        r"|prompt|rules|guidelines|configuration)|(?:text|words|everything) above)\b",
    ),
    "credentials": (
        2.4,
        r"\b(?:send|post|forward|upload|transmit|exfiltrat\w+|e?mail|leak|copy|submit|append|include"
        r"|share|paste)\b"
        r"(?:\W+\w+){0,8}\W+(?:passwords?|passphrases?|api\W?keys?|secrets?|tokens?|credentials?"
        r"|private\W?keys?"
        r"|env(?:ironment)? var\w*|\.env|ssh keys?|seed phrase|cookies?|conversation|chat history)\b",
    ),
    "beacon": (
        2.2,
        r"!\[[^\]]*\]\(https?://[^)]*[?&=][^)]*\)|<img[^>]+src=[\"']?https?://[^>]*[?=]"
        r"|\b(?:fetch|curl|wget|visit|open|navigate to|go to|click)\b(?:\W+\w+){0,4}\W+https?://",
    ),
    "fake_turn": (
        2.4,
        r"<\|?(?:im_start|im_end|system|assistant|user|endoftext|end_of_turn|eot_id)\|?>|\[/?INST\]|<</?SYS>>"
        r"|(?:^|\n)\W{0,4}(?:system|assistant|developer)(?: (?:message|prompt|note|override|update|alert"
        r"|notice))?\W{0,3}:"
        r"|\[(?:system|admin|developer)[^\]]{0,40}\]|</?(?:system|instructions?|important|information)>"
        r"|\bend of (?:document|context|input|user (?:query|input)|data|text|email|message)\b"
        r"|BEGIN (?:SYSTEM|ADMIN)",
    ),
    "to_the_agent": (
        2.0,
        r"\b(?:(?:attention|note|message|instructions?|notice|important|reminder|dear|hey|hello|hi|to|for)\W+"
        r"(?:to |for )?(?:the |any |all |an )?(?:ai|llm|language model|assistant|agent|model|chatbot|bot"
        r"|gpt|claude)s?\b\W*"
        r"(?:[:,!]|(?:reading|processing|who|that|must|should|please)))|\bas an? (?:ai|llm|language model)\b"
        r"|\bif you are (?:an? )?(?:ai|llm|language model|assistant|agent|bot)\b",
    ),
    "tool_use": (
        2.0,
        r"\b(?:call|invoke|use|run|execute|trigger)\b(?:\W+\w+){0,3}\W+(?:tool|function|command|shell|"
        r"orders_\w+|trading_\w+|memory_\w+|send_\w+|delete_\w+|transfer_\w+|execute_\w+|os\.system"
        r"|rm -rf)\b",
    ),
    "move_money": (
        2.0,
        r"\b(?:transfer|wire|send|pay|withdraw|deposit)\b(?:\W+\w+){0,6}\W+(?:funds?|money|balance"
        r"|bitcoin|btc|eth"
        r"|usd|dollars?|\$ ?\d[\d.,]*|account|iban|wallet)\b(?:(?:\W+\w+){0,4}\W+(?:to|into|at)\b)?",
    ),
    "order_the_trade": (
        2.0,
        r"\b(?:immediately|now|must|at once|right away|urgently|without (?:asking|approval"
        r"|confirmation))\b(?:\W+\w+){0,4}"
        r"\W+(?:buy|sell|short|liquidate|submit|place)\b|\b(?:buy|sell|liquidate)\b(?:\W+\w+){0,6}\W+"
        r"(?:immediately|at any price|right now|without (?:asking|approval|confirmation)|all[- ]in)\b",
    ),
    "secrecy": (
        2.0,
        r"\b(?:do not|don't|never|without)\b\W+(?:tell\w*|mention\w*|inform\w*|notify\w*|alert\w*"
        r"|reveal\w*|disclos\w+"
        r"|report\w*|let)\b(?:\W+\w+){0,4}\W+(?:user|human|operator|owner|anyone|anybody|this|person|him"
        r"|them|it)\b",
    ),
    "safety_off": (
        2.2,
        r"\b(?:disable|turn off|deactivate|remove|switch off|lift|circumvent"
        r"|evade)\b(?:\W+\w+){0,4}\W+(?:safety|filters?"
        r"|guardrails?|moderation|security|safeguards?|restrictions|limits?|checks?|kill switch|halt"
        r"|polic(?:y|ies))\b"
        r"|\bwithout (?:any )?(?:restrictions|filters|limitations|censorship|ethical)\b",
    ),
    "authority": (
        1.2,
        r"\b(?:i am|i'm|this is|message from|on behalf of|authori[sz]ed by|approved by)\W+(?:\w+\W+){0,3}"
        r"(?:your (?:developer|creator|administrator|owner|operator)|the (?:administrator|developer"
        r"|system|ceo|owner)"
        r"|admin(?:istrator)?|openai|anthropic|security team|compliance|it department)\b|\b(?:admin"
        r"|sudo) override\b",
    ),
    "urgency": (0.6, r"\b(?:urgent(?:ly)?|immediately|critical|emergency|asap|top priority)\b|!{3,}|\*{3,}"),
    "imperative_answer": (
        1.6,
        r"\b(?:only|simply|just|must|always)\W+(?:respond|reply|answer|output|say|print|write)\b"
        r"|\b(?:respond|reply|"
        r"answer)\W+(?:only )?with\b|\bstart (?:your|the) (?:response|reply|answer)\b"
        r"|\bbefore (?:you )?(?:solving|answering"
        r"|solve|answer|doing|completing|responding)\b|\binclude in your (?:response|answer|reply)\b",
    ),
}  # fmt: skip
_COMPILED: Final = {
    label: (weight, re.compile(pattern, re.IGNORECASE)) for label, (weight, pattern) in _RULES.items()
}
_WRAPPED: Final = 0.7  # an instruction that somebody took the trouble to hide is meant for a machine
_UNSURE: Final = frozenset({"rot13", "reversed"})  # every text has such a view; it counts only if it is plain
_BIAS: Final = 2.0


class Rules:
    """Weighs the phrases that it finds: a logistic score over the sum of their weights."""

    name = "rules"

    def score(self, text: str) -> Finding:
        """Returns the finding for a text of any length; long ones are judged by both ends."""
        weights: dict[str, float] = {}
        spans: list[tuple[int, int]] = []
        for wrapping, view in views(text):
            for label, (weight, pattern) in _COMPILED.items():
                match = pattern.search(view)
                if match is None or (wrapping in _UNSURE and weight < _BIAS):
                    continue
                if wrapping and label not in weights:
                    weights[wrapping] = _WRAPPED
                weights.setdefault(label, weight)
                if not wrapping and view == text:
                    spans.append(match.span())
        hidden = sum(is_hidden(character) and character != "\ufeff" for character in clip(text))
        if hidden >= 3:
            weights["hidden_text"] = 1.4
        score = 1 / (1 + math.exp(_BIAS - sum(weights.values()))) if weights else 0.0
        return Finding(self.name, round(score, 4), tuple(sorted(weights)), tuple(sorted(spans)))
