import pytest

from dsee_compress.checkpoint import Structure
from dsee_compress.evaluation import flops

from ..fixtures import models


@pytest.mark.parametrize("heads, neurons", [([4, 4, 4], [40, 40, 40]), ([1, 3, 2], [7, 30, 1])])
@pytest.mark.parametrize("length", [16, 100])
def test_count_is_that_of_the_products(family, pretrained, heads, neurons, length):
    """Two a multiply-add: four projections, two attention products and two FFN products a layer, and the head."""
    structure = Structure(
        heads=[list(range(count)) for count in heads], neurons=[list(range(count)) for count in neurons]
    )
    width = models.HEADS * models.HEAD_SIZE
    total = 2 * (width * width + width * 2)
    for head_count, neuron_count in zip(heads, neurons, strict=True):
        inner = head_count * models.HEAD_SIZE
        total += 2 * length * (4 * width * inner + 2 * width * neuron_count + 2 * length * inner)
    assert flops.count(pretrained, structure, length) == total
