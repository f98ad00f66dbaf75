"""A model's weights on disk and in memory, where they are once."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dsee_compress.errors import UserError
from dsee_compress.weights import load_files, load_tensors, load_weights, release, save_tensors, weights_of

from .fixtures import decoders, models


def written(model, folder: Path) -> list[Path]:
    """The weights in two files, of which the second has some of the first's again."""
    tensors = weights_of(model)
    names = sorted(tensors)
    first, second = folder / "first.safetensors", folder / "second.safetensors"
    save_tensors({name: tensors[name] * (1 if name in names[:5] else 0) for name in names[:9]}, first)
    save_tensors({name: tensors[name] for name in names[5:]}, second)
    return [first, second]


@pytest.mark.parametrize("build, family", [(models.build, "bert"), (decoders.build, "gpt2")])
def test_files_are_loaded_to_the_bit_and_ties_stay(tmp_path, build, family):
    wanted, model = build(family, seed=0), build(family, seed=1)
    load_files(model, written(wanted, tmp_path), tmp_path)
    torch.testing.assert_close(model.state_dict(), wanted.state_dict(), rtol=0, atol=0)
    assert weights_of(model).keys() == weights_of(wanted).keys()


@pytest.mark.parametrize("name", ["classifier.bias", "bert.embeddings.word_embeddings.weight"])
@pytest.mark.parametrize("fault", ["gone", "more", "of another shape"])
def test_what_does_not_fit_is_said_as_of_tensors_in_memory(tmp_path, name, fault):
    model = models.build("bert")
    tensors = {name: tensor.clone() for name, tensor in weights_of(model).items()}
    if fault == "gone":
        del tensors[name]
    else:
        tensors[f"{name}.more" if fault == "more" else name] = torch.zeros(3, 2)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError) as wanted:
        load_weights(model, load_tensors(tmp_path / "model.safetensors"), tmp_path)
    with pytest.raises(UserError) as found:
        load_files(model, [tmp_path / "model.safetensors"], tmp_path)
    assert str(found.value) == str(wanted.value)
    assert "does not fit the model that its folder describes" in str(found.value)


def test_a_file_that_is_gone_or_cut(tmp_path):
    model = models.build("bert")
    first, second = written(model, tmp_path)
    second.write_bytes(second.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"second\.safetensors is damaged"):
        load_files(model, [first, second], tmp_path)
    first.unlink()
    with pytest.raises(UserError, match=r"first\.safetensors is missing"):
        load_files(model, [first, second], tmp_path)


def test_a_released_model_holds_no_weights():
    model = models.build("bert")
    release(model)
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
