"""Every Triton kernel compiles for a GPU that is not here."""

import importlib
import importlib.util
import os
from typing import Any

import pytest
import torch

from bnlab.tests.engine.test_triton import DEVICE, DOUBLE, Norm, planned, slow, together

triton = pytest.importorskip("triton")


class Hopper:
    """A stand-in for Triton's driver on a machine with an H100: enough to compile what would run there."""

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


@pytest.mark.skipif(DEVICE.type == "cuda", reason="the kernels run here")
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="Triton was imported for interpreting")
@pytest.mark.skipif("nvidia" not in triton.backends.backends, reason="this Triton has no compiler for NVIDIA")
@pytest.mark.parametrize("dtype", [torch.float32, slow(torch.bfloat16), slow(DOUBLE)], ids=["32", "bf16", "64"])
def test_every_kernel_compiles_for_hopper_as_its_caller_launches_it(monkeypatch, tmp_path, dtype) -> None:
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    compiled: dict[str, set[bool]] = {}
    kinds: set[str] = set()
    wide: list[bool] = []
    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        compiled.setdefault(kernel.metadata.name, set()).add("cubin" in kernel.asm)
        kinds.add(kernel.hash)
        wide.append("ld.global.v" in kernel.asm["ptx"])
        return kernel

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(JITFunction, "run", compile_only)
    kernels = together(importlib.import_module)
    driver.set_active(Hopper())
    try:
        kernels.patches(torch.empty(2, 2, 32, 32, 3, dtype=dtype), planned((7, 2, 3, 32), 3, elide=True), 148)
        where = planned((3, 2, 1, 8), 64, elide=True)
        kernels.fold(kernels.patches(torch.empty(2, 2, 8, 8, 64, dtype=dtype), where, 9 * 64), where, 2)
        expected = {"_patches", "_fold"}
        if dtype != torch.bfloat16:
            kernels.max_pool(torch.empty(2, 2, 16, 16, 64, dtype=dtype, requires_grad=True)).sum().backward()
            for m, residual in ((50, True), (3200, False), (3200, True)):
                norm = Norm(m, 64, [1, 0], dtype=dtype, residual=residual)
                x, scale, shift, *beside = norm.inputs([0, 1])
                flags, running = torch.tensor(norm.flags, dtype=torch.int32), (norm.mean, norm.var)
                for readers in (1, 2):
                    following = (beside[0] if residual else None, True, readers)
                    ys = kernels.norm(x, scale, shift, flags, 1e-5, running, 0.1, *following)
                    torch.autograd.backward(ys, [norm.upstream] * readers)
                trained = set(kinds)
                kernels.norm(x, scale, shift, flags, 1e-5, None, 0.0, beside[0] if residual else None, True)
                assert kinds == trained, "a test of the network compiles nothing anew"
            for size in (64, 65):
                leaf = [torch.empty(size, dtype=dtype)] * 4 + [torch.empty(())]
                rows = kernels.adam.rows([leaf, leaf])
                kernels.adam.step(torch.tensor(rows), rows, torch.tensor(1e-3), dtype, (0.9, 0.999), 1e-8, 0.0)
            assert wide[-2:] == [True, False], "16 bytes at a time, where every address allows it"
            expected |= {
                "_step",
                "_pool",
                "_pool_grad",
                "_norm_parts",
                "_norm_apply",
                "_norm_grad_parts",
                "_norm_grad_apply",
            }
    finally:
        driver.set_active(None)

    assert compiled == {name: {True} for name in expected}
