"""Runs a build with the feature `cuda` over a driver without a device, so that NVRTC compiles every kernel it launches.

    python3 -m venv venv && venv/bin/pip install nvidia-cuda-nvrtc==13.0.* nvidia-cuda-runtime==13.0.* \
        nvidia-cuda-cccl==13.0.* nvidia-cuda-crt==13.0.* nvidia-cuda-nvcc==13.0.*
    cargo build --release --features cuda
    venv/bin/python policies/cuda/check_ptx.py target/release/rlvr

Needs a C compiler and no GPU. Any CUDA 13 toolkit will do instead of the packages: give its folder as second argument.
Of the products in bf16 it is burn's first choice that is compiled, not the dozens that tuning compares.
Prints the kernels and, where ptxas is there, what assembling them for sm_90 says of registers and spills. What kernels
compute is not looked at: nothing is executed.
"""
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent

# Norms of heads and biases come from the golden models; the rest of what a run does from tiny policies with heads of 64
# and 128 columns.
CONFIG = """
name = "ptx"
device = "cuda:0"
{policy}
[data.sums]
kind = "addition"
max_digits = 1
tasks = 20
split = "all"
[rewards]
kind = "exact"
[[stage]]
kind = "grpo"
data = "sums"
steps = 1
prompts_per_step = 2
group_size = 4
sampling = {{ max_tokens = 4, temperature = {temperature} }}
loss = {{ kl_coef = 0.02, groups_without_signal = "keep" }}
[preflight]
refuse = false
[checkpoint]
every = 0
[log]
tensorboard = false
"""
TINY = """[policy]
dtype = "{dtype}"
[policy.tiny]
layers = 1
hidden = {hidden}
heads = 2
kv_heads = 1
intermediate = 128
context = 32
alphabet = "0123456789+= "
"""


def toolkit(folder):
    if folder:
        return pathlib.Path(folder)
    import nvidia

    return pathlib.Path(list(nvidia.__path__)[0]) / "cu13"


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    cuda = toolkit(sys.argv[2] if len(sys.argv) > 2 else None)
    golden = HERE.parent.parent / "tests/golden/models"
    folders = [f'[policy]\npath = "{golden / name}"\n' for name in ("tiny-qwen2", "tiny-qwen3")]
    tiny = [TINY.format(dtype=dtype, hidden=hidden) for dtype in ("f32", "bf16") for hidden in (128, 256)]
    policies = [*tiny, *folders]
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        lib, ptx = scratch / "lib", scratch / "ptx"
        lib.mkdir()
        ptx.mkdir()
        driver = lib / "libcuda.so.1"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", driver, HERE / "fake_driver.c"], check=True)
        (lib / "libcuda.so").symlink_to(driver)
        for file in [*cuda.glob("lib/libnvrtc*.so*"), *cuda.glob("lib64/libnvrtc*.so*")]:
            (lib / file.name).symlink_to(file)
        if not (lib / "libnvrtc.so").exists():
            (lib / "libnvrtc.so").symlink_to(next(lib.glob("libnvrtc.so.*")))
        env = dict(
            os.environ,
            CUDA_PATH=str(cuda),
            LD_LIBRARY_PATH=str(lib),
            XDG_CACHE_HOME=str(scratch / "cache"),
            RLVR_DEVICE_TUNING="0",
        )
        kernels = collections.Counter()
        spills = {}
        for i, policy in enumerate(policies):
            out = ptx / str(i)
            out.mkdir()
            config = scratch / f"{i}.toml"
            config.write_text(CONFIG.format(policy=policy, temperature=0.8))
            command = [binary, "train", config, "--out", scratch / f"run{i}"]
            done = subprocess.run(
                command, env=dict(env, FAKE_CUDA_PTX=str(out)), cwd=scratch, capture_output=True, text=True
            )
            # Nothing was computed, so the norm of the gradients is whatever lay in memory.
            if done.returncode != 0 and "the gradient norm is" not in done.stderr:
                sys.exit(f"{done.stderr}\nthe run of policy {i} failed ({done.returncode})")
            for file in out.glob("*.ptx"):
                name = re.search(r"\.entry\s+(\w+)", file.read_text()).group(1)
                kernels[re.sub(r"_[0-9a-f]{8,}.*", "", name)] += 1
                assemble(cuda, file, name, spills)
        for name, count in sorted(kernels.items()):
            print(f"{count:4} {name}")
        print(f"{sum(kernels.values())} kernels compiled by NVRTC")
        for name, line in sorted(spills.items()):
            print(f"spills: {name}: {line}")


def assemble(cuda, file, name, spills):
    ptxas = cuda / "bin/ptxas"
    if not ptxas.exists():
        return
    command = [ptxas, "-arch=sm_90a", "-v", "-o", os.devnull, file]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{name}: {done.stderr}")
    line = next((l for l in done.stderr.splitlines() if "spill stores" in l), "")
    if line and " 0 bytes spill stores" not in line:
        spills[name] = line.strip()


if __name__ == "__main__":
    main()
