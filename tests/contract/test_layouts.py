"""Pins to each other the places that cannot import one another: proto, core, outputs and migrations."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from candlecast import _rust, candle_files, features, flow_messages, gate, models_client, outcomes, outputs, packed
from candlecast.errors import Refusal
from candlecast.filters import REASONS, Reason
from candlecast.models import bundle
from candlecast.models.states import State
from candlecast.server.app import newest_bundle
from candlecast.settings import Settings
from candlecast.store import outcome_rows
from candlecast.triton.repository import configs
from candlecast.v1 import models_pb2 as models_pb
from candlecast.v1 import order_flow_pb2 as flow_pb
from candlecast.v1 import types_pb2 as pb

ROOT = Path(__file__).resolve().parents[2]


def names(enum, prefix):
    return tuple(name.removeprefix(prefix) for name in enum.keys()[1:])


def test_the_wire_spells_verdicts_and_states_as_the_core_does_one_higher():
    assert names(pb.Verdict, "VERDICT_") == _rust.VERDICTS
    assert names(pb.SymbolState, "SYMBOL_STATE_") == _rust.STATES
    assert list(pb.Verdict.values()) == list(range(len(_rust.VERDICTS) + 1))
    assert list(pb.SymbolState.values()) == list(range(len(_rust.STATES) + 1))


def test_the_core_names_the_candle_fields_of_the_wire():
    fields = {field.name for field in pb.Candle.DESCRIPTOR.fields}
    assert set(_rust.FIELDS[1:]) <= fields


def test_the_blocks_of_the_outputs_cover_each_index_once():
    indices = list(range(outputs.COUNT))
    assert indices[outputs.RETURNS] + indices[outputs.LOGITS] + indices[outputs.RISKS] == indices
    assert len(indices[outputs.LOGITS]) == len(outputs.HORIZON_BARS) * len(outputs.CLASSES)
    assert len(indices[outputs.RISKS]) == len(outputs.RISK_NAMES) == 2 * len(outputs.RISK_BARS)


def test_the_statements_of_outcomes_name_the_horizons_and_the_classes_of_the_outputs():
    text = (ROOT / "python" / "candlecast" / "store" / "outcomes.sql").read_text()
    table = (ROOT / "migrations" / "0030_outcome_rows.sql").read_text()
    for name in ("actual_return", "actual_class", "hit", "error"):
        assert re.findall(rf"\b{name}_(\d+) +(?:real|smallint|boolean)", table) == [
            str(n) for n in outputs.HORIZON_BARS
        ]
        assert set(re.findall(rf"\b{name}_(\d+)", text)) == set(map(str, outputs.HORIZON_BARS))
    (columns,) = re.findall(r"CREATE TABLE ml_outcome_rows \((.*?)\n    PRIMARY KEY", table, re.DOTALL)
    assert set(re.findall(r"^    (\w+) ", columns, re.MULTILINE)) == set(outcome_rows.COLUMNS)
    words = (outputs.CLASSES, outcomes.EXITS)
    assert set(re.findall(r"ARRAY\['([^\]]*)'\]", table.replace("''", "'"))) >= {"', '".join(each) for each in words}
    for number, word in [*enumerate(outputs.CLASSES), *enumerate(outcomes.EXITS)]:
        assert f" {number} {word}" in table
    documented = (ROOT / "migrations" / "0013_outcomes.sql").read_text()
    assert f"TIME (after {outputs.HOLD_BARS} bars)" in documented


def test_every_risk_has_its_field_on_the_wire():
    assert set(outputs.RISK_NAMES) <= {field.name for field in pb.Forecast.DESCRIPTOR.fields}


def test_every_reason_is_documented():
    documented = (ROOT / "README.md").read_text()
    for reason in (*(reason.value for reason in Reason), *_rust.REASONS[1:]):
        assert f"`{reason}`" in documented, f"{reason} is missing from README.md"


def test_the_shipped_model_is_served_with_the_shape_of_this_server():
    for path, text in configs("patchtst", features.WINDOW, len(features.NAMES), outputs.COUNT).items():
        assert (ROOT / "triton_models" / "patchtst" / path).read_text() == text, f"{path}: run `candlecast export`"
    shipped = newest_bundle(ROOT / "triton_models" / "patchtst")
    shipped.check_feature_set()
    shipped.check_reference(Settings.model_fields["reference_symbol"].default)


def test_the_optional_inputs_are_the_optional_columns_of_candle_files_and_the_reference():
    assert (*candle_files.OPTIONAL, "reference") == features.OPTIONAL_INPUTS


def test_feature_names_are_unique():
    assert len(set(features.NAMES)) == len(features.NAMES)


@pytest.mark.parametrize("proto", sorted((ROOT / "proto").rglob("*.proto")), ids=lambda path: path.stem)
def test_the_generated_code_is_that_of_the_proto(proto, tmp_path):
    module = proto.relative_to(ROOT / "proto").with_suffix("")
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={tmp_path}", str(proto)]
    subprocess.run(command, check=True)
    generated = (tmp_path / f"{module}_pb2.py").read_text()
    assert (ROOT / "python" / f"{module}_pb2.py").read_text() == generated, "run `make proto`"


def test_the_documented_layout_of_packed_records_is_theirs():
    documented = (ROOT / "proto" / "candlecast" / "v1" / "types.proto").read_text()
    assert f"A candle has {packed.CANDLE.itemsize} bytes" in documented
    assert f"A result, as a CandleResult, has {packed.RESULT.itemsize} bytes" in documented
    of_result = documented[documented.index("A result, as a CandleResult") :]
    for name in ("verdict", "have", "direction", "reasons", "model_agreement", "close_time_ms", "confidence"):
        assert re.search(rf"\b{packed.RESULT.fields[name][1]} {name}", of_result), name
    assert f"{packed.RESULT.fields['returns'][1]} expected returns" in of_result
    assert f"{packed.RESULT.fields['probabilities'][1]} probabilities" in of_result
    assert f"{packed.RESULT.fields['risks'][1]} max_drawdown_1h" in of_result
    assert f"{packed.RESULT.fields['rule_score'][1]} {', '.join(packed.SCORES)}" in of_result
    assert f"this is number {packed.RESULT_LAYOUT}," in documented
    for dtype in (packed.CANDLE, packed.RESULT):
        ends = [offset + field.itemsize for field, offset in dtype.fields.values()]
        assert [0, *ends] == [*(offset for _, offset in dtype.fields.values()), dtype.itemsize]


def test_the_codes_of_packed_records_are_those_of_the_core_and_of_the_filters():
    assert (packed.REFUSAL_FIELDS, packed.REFUSAL_REASONS) == (_rust.FIELDS, _rust.REASONS)
    assert packed.REASONS == REASONS
    assert packed.GATE_VERDICTS == gate.VERDICTS
    documented = (ROOT / "proto" / "candlecast" / "v1" / "types.proto").read_text().replace("\n//     ", " ")
    for names, begin in (
        (_rust.FIELDS[1:], "1 "),
        (_rust.REASONS[1:], "1 "),
        (REASONS, "bit 0 "),
        (gate.VERDICTS, "gate uint8: 0 "),
    ):
        assert begin + ", ".join(names) in documented


def test_order_flow_has_the_columns_of_the_core_and_of_the_messages():
    assert names(flow_pb.GateVerdict, "GATE_VERDICT_") == gate.VERDICTS
    fields = [field.name for field in flow_pb.FlowState.DESCRIPTOR.fields]
    assert tuple(fields) == ("symbol", "ts_ms", *gate.RECORD, "undefined")
    for message, columns in (
        (flow_pb.TradeColumns, flow_messages.TRADES),
        (flow_pb.QuoteColumns, flow_messages.QUOTES),
        (flow_pb.DepthColumns, flow_messages.DEPTH),
    ):
        assert [field.name for field in message.DESCRIPTOR.fields] == list(columns)
    counts = [field.name.upper() for field in flow_pb.FlowCounts.DESCRIPTOR.fields]
    assert tuple(counts) == _rust.FLOW_TAKEN
    documented = (ROOT / "proto" / "candlecast" / "v1" / "order_flow.proto").read_text()
    assert ", ".join(_rust.FLOW_UNDEFINED[1:]) in documented


def test_the_wire_and_the_migration_spell_the_states_of_a_model_version_as_the_rollout_does():
    states = tuple(state.value for state in State)
    assert names(models_pb.ModelState, "MODEL_STATE_") == states
    migration = (ROOT / "migrations" / "0009_model_events.sql").read_text()
    assert re.findall(r"'([A-Z]+)'", migration[migration.index("CHECK (to_state IN") :])[: len(states)] == list(states)


def test_the_client_sends_all_files_of_a_bundle():
    assert set(models_client.FILES) == set(bundle.FILES)


def test_the_shipped_bundle_says_what_its_drift_is_held_to_with_the_temperatures_it_is_read_with():
    shipped = newest_bundle(ROOT / "triton_models" / "patchtst")
    assert shipped.reference is not None, "candlecast export triton_models/patchtst/1 --reference FILE… writes it"
    assert shipped.reference.predictions is not None
    assert shipped.reference.read_with(shipped.manifest.temperatures) is shipped.reference, "write it anew, as above"
    begins = {part["from"] for part in (shipped.manifest.training["shipped"]["spans"]["train"],)}
    assert begins == {f"{shipped.reference.features.span[0]:%Y-%m-%dT%H:%M:%SZ}"}


def test_every_reason_to_refuse_a_model_is_documented():
    documented = (ROOT / "README.md").read_text()
    for refusal in Refusal:
        assert f"`{refusal.value}`" in documented, f"{refusal.value} is missing from README.md"
