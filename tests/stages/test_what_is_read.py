"""Each stage that reads data says in a line what it reads."""

import dsee_compress
from dsee_compress.stages import run


def test_every_stage_that_reads_says_what(tmp_path, bert, bert_tuned, data, capsys):
    train, validation = (
        f"read {split}: text 'text'; label 'label' (bad, good), {count} rows"
        for split, count in (("train", 256), ("validation", 64))
    )

    def read() -> list[str]:
        return [line for line in capsys.readouterr().err.splitlines() if line.startswith("read ")]

    pruned = dsee_compress.prune(bert_tuned, output=tmp_path / "prune", heads=0.25, neurons=0.25, retune_epochs=0)
    assert read() == [train, validation]
    exported = dsee_compress.export(pruned, output=tmp_path / "export", precision="int8,int8_static")
    assert read() == [train]
    dsee_compress.validate(exported, max_drop=0.9, max_compression_drop=0.9)
    assert read() == [validation]
    run.check(run.parse_recipe({"finetune": {"model": str(bert), "data": str(data)}}, []), tmp_path / "run")
    assert read() == [validation]
