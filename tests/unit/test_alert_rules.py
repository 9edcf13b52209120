"""Alert rules: what may be set, when they fire and end, and what a restart makes of them."""

import asyncio
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from candlecast import settings as configuration
from candlecast.alert_file import Alert, AlertFile, Begun, State
from candlecast.alert_rules import ACCURACY, DEFAULTS, METRICS, TRADES, AlertRule, rules_of
from candlecast.alerts import Alerter, NotSent, Rule
from candlecast.errors import ConfigurationError
from candlecast.server.alerting import alerter_of, quality_watch_of
from candlecast.settings import CHECKOUT
from candlecast.telemetry import Telemetry

LAG = AlertRule(
    name="lag", metric="drain_lag_s", above=10, clears_at=6, for_s=30, severity="critical", text="{value:.0f} s"
)


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def loaded(text):
    Path("candlecast.toml").write_text(text)
    return configuration.load()


def test_rules_stand_in_the_settings_file_beside_the_defaults_or_in_their_place():
    found = loaded("""
        alert_rules_off = ["pnl"]
        [[alert_rules]]
        name = "journal"
        metric = "journal_ratio"
        above = 0.5
        [[alert_rules]]
        name = "four_hours"
        metric = "hit_rate"
        below = 0.3
        clears_at = 0.33
        for_s = 600
        severity = "critical"
        days = 3
        count_min = 50
        horizon_bars = 16
    """)
    rules = {rule.name: rule for rule in rules_of(found.alert_rules, found.alert_rules_off)}
    assert set(rules) == {rule.name for rule in DEFAULTS} - {"pnl"} | {"four_hours"}
    assert (rules["journal"].above, rules["drain"].above, rules["four_hours"].limit) == (0.5, 300, 0.3)
    assert rules["journal"].told(0.6) == "journal_ratio is 0.6, the rule journal wants to hear of it above 0.5"


def test_the_defaults_are_what_was_fixed_before_and_three_about_outcomes():
    assert {rule.name: (rule.limit, rule.for_s) for rule in DEFAULTS if not rule.is_of_outcomes} == {
        "not_ready": (0.5, 60), "journal": (0.7, 0), "drain": (300, 0), "degraded": (0.5, 0),
    }  # fmt: skip
    assert {rule.metric for rule in DEFAULTS if rule.is_of_outcomes} == {
        "hit_rate_over_base", "calibration_error", "mean_return",
    }  # fmt: skip
    assert DEFAULTS[1].told(0.8) == "the journal is 80% full: new candles are refused when it is"


def test_rules_are_read_from_the_environment_as_json(monkeypatch):
    monkeypatch.setenv("CANDLECAST_ALERT_RULES", '[{"name": "x", "metric": "pnl", "below": -5, "strategy": "mine"}]')
    (rule,) = configuration.load().alert_rules
    assert (rule.metric, rule.limit, rule.strategy) == ("pnl", -5, "mine")
    monkeypatch.setenv("CANDLECAST_ALERT_RULES", "[oops")
    with pytest.raises(ConfigurationError, match=r"alert_rules.*a list is JSON"):
        configuration.load()


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"metric": "nonsense", "above": 1}, r"alert_rules\.0\.metric: .*'hit_rate'"),
        ({"metric": "pnl"}, "rule x: give one of above and below"),
        ({"metric": "pnl", "above": 1, "below": 0}, "rule x: give one of above and below"),
        ({"metric": "pnl", "below": 1, "clears_at": 0.5}, "rule x: clears_at 0.5 lies below its limit 1"),
        ({"metric": "drain_lag_s", "above": 1, "clears_at": 2}, "rule x: clears_at 2 lies above its limit 1"),
        ({"metric": "drain_lag_s", "above": 1, "for_s": -1}, r"alert_rules\.0\.for_s"),
        ({"metric": "drain_lag_s", "above": "much"}, r"alert_rules\.0\.above"),
        ({"metric": "drain_lag_s", "above": 1, "days": 3}, "rule x: days is for .*hit_rate.*, not for drain_lag_s"),
        ({"metric": "pnl", "above": 1, "horizon_bars": 4}, "rule x: horizon_bars is for hit_rate.*, not for pnl"),
        ({"metric": "hit_rate", "below": 1, "horizon_bars": 3}, r"alert_rules\.0\.horizon_bars"),
        ({"metric": "pnl", "above": 1, "text": "{vale}"}, r"rule x: text '\{vale\}' takes \{value\} and no more"),
        ({"metric": "pnl", "above": 1, "text": "{value.real}{0}"}, "and no more"),
        ({"metric": "pnl", "above": 1, "severity": "loud"}, r"alert_rules\.0\.severity"),
        ({"metric": "pnl", "above": 1, "name": "Two words"}, r"alert_rules\.0\.name"),
        ({"metric": "pnl", "above": 1, "sevrity": "info"}, r"alert_rules\.0\.sevrity"),
    ],
)  # fmt: skip
def test_a_bad_rule_is_refused_and_says_what_is_wrong(rule, why):
    with pytest.raises(ConfigurationError, match=why):
        configuration.load(alert_rules=[{"name": "x"} | rule])


def test_names_are_given_once_and_what_is_off_is_a_default():
    twice = [{"name": "x", "metric": "pnl", "above": 1}] * 2
    with pytest.raises(ConfigurationError, match="x: a name is given to one rule"):
        configuration.load(alert_rules=twice)
    with pytest.raises(ConfigurationError, match="nothing: the default rules are not_ready, journal"):
        configuration.load(alert_rules_off=["nothing"])


def test_every_metric_and_field_is_documented():
    page = (CHECKOUT / "docs" / "alerts.md").read_text()
    for name in (*METRICS, *AlertRule.model_fields, *(rule.name for rule in DEFAULTS)):
        assert f"`{name}`" in page, name
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert len(loaded(example).alert_rules) == 2


def test_the_server_reads_every_metric_and_tells_the_state_of_every_rule(own_directory):
    every = [{"name": f"on_{metric}", "metric": metric, "above": 0.5} for metric in METRICS]
    given = configuration.load(
        alert_rules=every, alert_rules_off=[rule.name for rule in DEFAULTS], state_dir=own_directory,
        database_url="postgresql://nowhere/x",
    )  # fmt: skip
    readiness = SimpleNamespace(ready=False, degraded="old: x")
    recorder = SimpleNamespace(journal=SimpleNamespace(size=90), bytes_max=100, drain=SimpleNamespace(lag_s=0.2))
    quality = quality_watch_of(given, SimpleNamespace(champion=None))
    assert [rule.metric for rule in quality._rules] == [*ACCURACY, *TRADES]
    quality._known = {"on_pnl": 7.0}
    telemetry = Telemetry()
    alerter = alerter_of(given, readiness, recorder, quality, telemetry)
    alerter.evaluate(0)
    told = telemetry.rendered()[0].decode()
    values = dict(re.findall(r'candlecast_alert_value\{rule="on_(\w+)"\} (\S+)', told))
    assert values == {"not_ready": "1.0", "degraded": "1.0", "journal_ratio": "0.9", "drain_lag_s": "0.2", "pnl": "7.0"}
    firing = re.findall(r'candlecast_alert_firing\{rule="on_(\w+)",severity="warning"\} 1.0', told)
    assert firing == ["not_ready", "degraded", "journal_ratio", "pnl"]


class Heard:
    """A channel that keeps what it is sent, or fails."""

    name = "heard"

    def __init__(self, *, fails=False):
        self.texts, self.fails = [], fails

    def send(self, alert):
        if self.fails:
            raise NotSent("HTTP 404", retryable=False)
        self.texts.append(str(alert))


async def test_it_fires_beyond_its_limit_for_long_enough_and_ends_where_it_clears():
    value, channel = [0.0], Heard()
    async with asyncio.timeout(10), Alerter([channel], per_hour_max=9) as alerter:
        alerter.rules = [Rule(LAG, lambda: value[0])]
        steps = [(0, 5), (10, 11), (20, 8), (25, 12), (54, 12), (55, 13), (60, None), (65, float("nan")), (70, 7),
                 (80, 99), (90, 6), (100, 12)]  # fmt: skip
        for now, value[0] in steps:
            alerter.evaluate(now)
        value[0] = None  # the alerter looks at it, too
        assert alerter.firing() == {("lag", "critical"): 0.0} and alerter.values() == {("lag",): 12}
        await alerter.sent_all()
    assert channel.texts == ["FIRING (critical) 13 s", "RESOLVED 6 s"]


async def test_below_a_limit_is_the_mirror_image():
    low, value, channel = AlertRule(name="low", metric="hit_rate", below=0.3, clears_at=0.4), [0.0], Heard()
    async with asyncio.timeout(10), Alerter([channel], per_hour_max=9) as alerter:
        alerter.rules = [Rule(low, lambda: value[0])]
        for now, value[0] in enumerate((0.3, 0.29, 0.35, 0.4, 0.35, 0.2)):
            alerter.evaluate(now)
        value[0] = None
        await alerter.sent_all()
    assert [text.split()[0] for text in channel.texts] == ["FIRING", "RESOLVED", "FIRING"]


async def test_a_restart_neither_repeats_a_begin_nor_forgets_an_end(tmp_path):
    file = tmp_path / "state" / "alerts.json"

    async def life(value):
        channel = Heard()
        rule = Rule(LAG, lambda: value)
        async with asyncio.timeout(10), Alerter([channel], per_hour_max=9, rules=[rule], state=file) as alerter:
            for now in (0, 100):
                alerter.evaluate(now)
            await alerter.sent_all()
        return channel.texts

    assert await life(50) == ["FIRING (critical) 50 s"]
    assert await life(50) == []
    assert await life(None) == []  # not known yet: it goes on
    assert await life(8) == []  # between limit and end
    assert await life(2) == ["RESOLVED 2 s"]  # it ended meanwhile
    assert await life(2) == []
    assert json.loads(file.read_text())["firing"] == {}


async def test_what_no_rule_watches_any_more_is_told_to_have_ended(tmp_path):
    file = tmp_path / "alerts.json"
    AlertFile(file).write(State({"lag": Begun("50 s", "critical", 1.0)}))
    channel = Heard()
    async with asyncio.timeout(10), Alerter([channel], per_hour_max=9, state=file) as alerter:
        await alerter.sent_all()
    assert channel.texts == ["RESOLVED 50 s (no rule watches it any more)"]
    assert AlertFile(file).read().firing == {}


async def test_what_waited_at_the_end_is_sent_after_the_next_start_and_the_hour_goes_on(tmp_path):
    file, begun = tmp_path / "alerts.json", Alert("lag", "50 s", True, "critical")
    async with asyncio.timeout(10):
        alerter = Alerter([Heard()], per_hour_max=1, rules=[Rule(LAG, lambda: None)], state=file)
        async with alerter:
            for task in alerter._tasks:
                task.cancel()  # nothing is sent any more
            alerter.tell(begun)
        channel = Heard()
        async with Alerter([channel], per_hour_max=1, rules=[Rule(LAG, lambda: None)], state=file) as again:
            again.tell(Alert("other", "too many", True))
            await again.sent_all()
            assert again.dropped == 1
    assert channel.texts == [str(begun)]
    assert AlertFile(file).read().unsent == ()


async def test_a_begin_is_on_disk_before_it_is_sent(tmp_path):
    file, seen = tmp_path / "alerts.json", []

    class Looks(Heard):
        def send(self, alert):
            seen.append(AlertFile(file).read())

    rule = Rule(DEFAULTS[2], lambda: 400.0)
    async with asyncio.timeout(10), Alerter([Looks()], per_hour_max=9, rules=[rule], state=file) as alerter:
        alerter.evaluate(0)
        alerter.evaluate(100)
        await alerter.sent_all()
    (state,) = seen
    assert set(state.firing) == {"drain"} and [alert.key for alert in state.unsent] == ["drain"]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"format": 2}', b'{"format": 1, "firing": {"x": 1}, "unsent": [], "begun": []}'],
)
async def test_a_damaged_file_is_said_and_begins_anew(tmp_path, content, caplog):
    file = tmp_path / "alerts.json"
    file.write_bytes(content)
    assert AlertFile(file).read() == State()
    assert "alerts forgotten" in caplog.text


async def test_a_disk_that_takes_nothing_stops_no_alert(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    channel, rule = Heard(), Rule(LAG, lambda: 50.0)
    state = tmp_path / "file" / "alerts.json"
    async with asyncio.timeout(10), Alerter([channel], per_hour_max=9, rules=[rule], state=state) as alerter:
        alerter.evaluate(0)
        alerter.evaluate(100)
        await alerter.sent_all()
    assert channel.texts == ["FIRING (critical) 50 s"]
    assert caplog.text.count("alerts not kept") == 1


async def test_a_rule_that_cannot_be_read_is_said_once_and_hinders_no_other(caplog):
    def broken():
        raise RuntimeError("no")

    alerter = Alerter([], per_hour_max=9, rules=[Rule(LAG, broken), Rule(DEFAULTS[2], lambda: 400.0)])
    alerter.evaluate(0)
    alerter.evaluate(5)
    assert alerter.firing() == {("lag", "critical"): 0, ("drain", "warning"): 1}
    assert caplog.text.count("rule=lag cannot be read") == 1
