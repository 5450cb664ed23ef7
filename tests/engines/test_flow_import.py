"""Importing checkpoints: tiny ones in the format of MONAI's bundles and of MAISI, and all that can be wrong."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from monai.apps.generation.maisi.networks.autoencoderkl_maisi import AutoencoderKlMaisi
from monai.apps.generation.maisi.networks.diffusion_model_unet_maisi import DiffusionModelUNetMaisi
from monai.networks.nets import AutoencoderKL, DiffusionModelUNet
from safetensors.torch import save_file

from equipoise.core import rng_for
from equipoise.engines.imaging.flow import Flow
from equipoise.engines.imaging.flow.architecture import build
from equipoise.engines.imaging.flow.from_shapes import autoencoder_from_shapes
from equipoise.engines.imaging.flow.imported import read_imported
from equipoise.engines.imaging.flow.importing import import_checkpoint
from equipoise.engines.parts.learned.fitting import one_thread
from equipoise.errors import EngineError, PlanError, UnreadableFileError, WorkspaceError
from equipoise.testing.engine_contract import phantom_cases

KL = {
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "num_res_blocks": [1, 1, 1],
    "channels": [8, 8, 16],
    "attention_levels": [False, False, False],
    "latent_channels": 3,
    "norm_num_groups": 4,
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
}
MAISI = {
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 1,
    "latent_channels": 4,
    "num_channels": [8, 8, 16],
    "num_res_blocks": [1, 1, 1],
    "norm_num_groups": 4,
    "norm_eps": 1e-6,
    "attention_levels": [False, False, False],
    "with_encoder_nonlocal_attn": False,
    "with_decoder_nonlocal_attn": False,
    "use_checkpointing": False,
    "use_convtranspose": False,
    "norm_float16": True,
    "num_splits": 2,
    "dim_split": 1,
}
MAISI_UNET = {
    "spatial_dims": 3,
    "in_channels": 4,
    "out_channels": 4,
    "num_channels": [8, 16],
    "attention_levels": [False, True],
    "num_head_channels": [0, 8],
    "norm_num_groups": 8,
    "num_res_blocks": 1,
    "use_flash_attention": True,
    "include_top_region_index_input": False,
    "include_bottom_region_index_input": False,
    "include_spacing_input": True,
    "num_class_embeds": 128,
    "resblock_updown": True,
    "include_fc": True,
}
FITTING = {"steps": 2, "batch": 2, "sublabels": 2, "sampling_steps": 2, "patch": 16, "channels": (16, 24)}


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for one another take most of the time where networks are this small."""
    with one_thread("cpu"):
        yield


def drawn(cls, seed=0, **arguments):
    """Return a network with weights from a seed, all of them other than 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = cls(**arguments)
        for value in net.parameters():
            torch.nn.init.normal_(value, 0.0, 0.2)
        if isinstance(net, AutoencoderKL):
            _alive(net, arguments)
    return net.eval()


@torch.no_grad()
def _alive(net, arguments):
    """Let latents of images and images of latents vary as those of a trained autoencoder do."""
    ndim = arguments["spatial_dims"]
    images = torch.rand((4, arguments["in_channels"], *[16] * ndim))
    for value in net.quant_conv_log_sigma.parameters():
        value.zero_()
    net.quant_conv_log_sigma.conv.bias.fill_(-4)
    mean = net.encode(images)[0]
    net.quant_conv_mu.conv.weight.div_(mean.std())
    net.quant_conv_mu.conv.bias.sub_(mean.mean()).div_(mean.std())
    last = net.decoder.blocks[-1]
    weight, bias = (next(v for k, v in last.named_parameters() if k.endswith(name)) for name in ("weight", "bias"))
    bias.zero_()
    made = net.decode(torch.randn((4, arguments["latent_channels"], *[4] * ndim)))
    weight.mul_(0.3 / made.std())
    bias.fill_(0.5 - made.mean() * 0.3 / made.std())


@pytest.fixture
def kl(tmp_path):
    """A bare state dict of a 2-D autoencoder, and the configuration that it was trained with."""
    net = drawn(AutoencoderKL, **KL)
    torch.save(net.state_dict(), tmp_path / "kl.pt")
    described = {"autoencoder_def": {"_target_": "monai.networks.nets.AutoencoderKL", **KL}}
    (tmp_path / "kl.json").write_text(json.dumps(described))
    return net, tmp_path / "kl.pt", tmp_path / "kl.json"


def maisi_bundle(root, scheduler="monai.networks.schedulers.RFlowScheduler", licence="Apache-2.0", **changed):
    """Write a bundle laid out as MAISI's, with its references, expressions and second autoencoder."""
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    spaces = "monai.apps.generation.maisi.networks"
    described = {
        **MAISI,
        "spatial_dims": "@spatial_dims",
        "latent_channels": "@latent_channels",
        "in_channels": "@image_channels",
    }
    masks = {**MAISI, "in_channels": 8, "out_channels": 125, "num_channels": [8, 8, 8]}
    unet = {**MAISI_UNET, **changed}
    config = {
        "imports": ["$import torch", "$import scripts"],
        "device": "$torch.device('cuda:0')",
        "spatial_dims": 3,
        "image_channels": 1,
        "latent_channels": 4,
        "mask_generation_autoencoder_def": {"_target_": f"{spaces}.autoencoderkl_maisi.AutoencoderKlMaisi", **masks},
        "autoencoder_def": {"_target_": f"{spaces}.autoencoderkl_maisi.AutoencoderKlMaisi", **described},
        "diffusion_unet_def": {"_target_": f"{spaces}.diffusion_model_unet_maisi.DiffusionModelUNetMaisi", **unet},
        "mask_generation_noise_scheduler": {"_target_": "monai.networks.schedulers.ddpm.DDPMScheduler"},
        "noise_scheduler": {"_target_": scheduler, "num_train_timesteps": 1000},
        "checkpoint": "$torch.load(@trained_autoencoder_path)",
    }
    (root / "configs" / "inference.json").write_text(json.dumps(config))
    image = {"num_channels": 4, "dtype": "float16", "value_range": [0, 1]}
    metadata = {"name": "tiny", "data_source": "nobody", "autoencoder_data_format": {"inputs": {"image": image}}}
    (root / "configs" / "metadata.json").write_text(json.dumps(metadata))
    if licence:
        (root / "LICENSE").write_text("\n   Apache License\n   Version 2.0, January 2004\n\n   text\n")
    autoencoder, velocity = drawn(AutoencoderKlMaisi, **_cpu(MAISI)), drawn(DiffusionModelUNetMaisi, **_cpu(unet))
    # As MAISI's trainers write them: an autoencoder under this name, and numbers of numpy beside the weights.
    wrapped = {"epoch": 3, "loss": np.float64(0.25), "unet_state_dict": autoencoder.state_dict()}
    torch.save(wrapped, root / "models" / "autoencoder_v2.pt")
    torch.save(
        {"unet_state_dict": velocity.state_dict(), "scale_factor": torch.tensor(1.25), "loss": np.float64(0.1)},
        root / "models" / "diff_unet.pt",
    )
    torch.save(
        drawn(AutoencoderKlMaisi, **_cpu(masks)).state_dict(), root / "models" / "mask_generation_autoencoder.pt"
    )
    return autoencoder, velocity


def _cpu(arguments):
    """Return arguments that change how a network computes, and nothing about its weights."""
    changed = {"use_flash_attention": False, "norm_float16": False, "num_splits": 1}
    return {name: changed.get(name, value) for name, value in arguments.items()}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
def test_a_bundle_of_maisi_is_imported(tmp_path, packed):
    root = tmp_path / "bundle"
    autoencoder, velocity = maisi_bundle(root)
    source = _zipped(root) if packed else root
    about = import_checkpoint(source, tmp_path / "maisi.safetensors")
    found = {part: read_imported(str(tmp_path / "maisi.safetensors"), part) for part in ("autoencoder", "velocity")}
    for part, name, net in (
        ("autoencoder", "autoencoder_v2.pt", autoencoder),
        ("velocity", "diff_unet.pt", velocity),
    ):
        one = found[part]
        assert one.about["sha256"] == hashlib.sha256((root / "models" / name).read_bytes()).hexdigest()
        assert (one.about["source"], one.about["licence"]) == (name, "Apache License, Version 2.0, January 2004")
        assert all(torch.equal(one.tensors[k], v) for k, v in net.state_dict().items())
    assert found["autoencoder"].value_range == (0, 1)
    assert found["velocity"].scale == 1.25
    assert (about["trained_on"], about["left_out"]) == ("nobody", None)
    again = build(found["autoencoder"].architecture).eval()
    again.load_state_dict(found["autoencoder"].tensors)
    image = torch.rand((1, 1, 16, 16, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(again.reconstruct(image), autoencoder.reconstruct(image), atol=1e-5)


def _zipped(root):
    path = root.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                archive.write(file, f"bundle/{file.relative_to(root)}")
    return path


def test_a_maisi_checkpoint_is_found_with_the_bundle_around_it(tmp_path):
    maisi_bundle(tmp_path / "bundle")
    about = import_checkpoint(tmp_path / "bundle" / "models" / "autoencoder_v2.pt", tmp_path / "out.safetensors")
    assert list(about["parts"]) == ["autoencoder"]
    assert about["parts"]["autoencoder"]["licence"].startswith("Apache License")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"scheduler": "monai.networks.schedulers.ddpm.DDPMScheduler"}, "would not be a velocity"),
        ({"include_top_region_index_input": True}, "body regions"),
    ],
)
def test_a_diffusion_network_that_is_no_velocity_is_left_out_and_said(tmp_path, changed, words):
    maisi_bundle(tmp_path / "bundle", **changed)
    about = import_checkpoint(tmp_path / "bundle", tmp_path / "out.safetensors")
    assert list(about["parts"]) == ["autoencoder"]
    assert words in about["left_out"]


def test_flow_starts_from_maisi_and_says_so(tmp_path):
    """The frozen autoencoder and the velocity enter as they are; planes come in with weights of 0."""
    _, velocity = maisi_bundle(tmp_path / "bundle")
    out = str(tmp_path / "maisi.safetensors")
    about = import_checkpoint(tmp_path / "bundle", tmp_path / "maisi.safetensors")
    options = {k: v for k, v in FITTING.items() if k != "channels"} | {"learning_rate": 1e-8}
    engine = Flow(**options, autoencoder=out, velocity=out, autoencoder_steps=0)
    fitted = engine.fit(phantom_cases(3, dimension=3), rng_for(0))
    trainee = fitted._learned.trainee
    assert trainee.latents.scale.tolist() == [1.25] * 4
    x, time = torch.randn((1, 4, 4, 4, 4), generator=torch.Generator().manual_seed(0)), torch.tensor([400.0])
    told = torch.ones((1, trainee.network.net.in_channels - 4, 4, 4, 4))
    spacing = torch.tensor([[80.0, 80.0, 160.0]])
    with torch.no_grad():
        expected = velocity(x, time, class_labels=torch.tensor([0]), spacing_tensor=spacing)
        guess = trainee.network(torch.cat([x, told], 1), time)
    assert torch.allclose(guess, expected, atol=1e-3 * float(expected.abs().max()))
    (case,) = fitted.sample(1, rng_for(1))
    assert case.attributes["autoencoder sha256"] == about["parts"]["autoencoder"]["sha256"]
    assert case.attributes["velocity licence"] == "Apache License, Version 2.0, January 2004"
    assert f'"autoencoder":"{out}"' in case.origin.spec
    assert case.image.array.shape == (1, 40, 43, 34)


def test_an_autoencoder_is_kept_or_trained_on(kl, tmp_path):
    net, file, config = kl
    out = tmp_path / "kl.safetensors"
    import_checkpoint(file, out, "CC-BY-4.0", config)
    made = {}
    for steps in (0, 3):
        engine = Flow(**FITTING, autoencoder=str(out), autoencoder_steps=steps, learning_rate=1e-3)
        fitted = engine.fit(phantom_cases(3), rng_for(0))
        latents = fitted._learned.trainee.latents
        made[steps] = latents.net.state_dict()
        assert latents.channels == 3
        assert (latents.scale != 1).all(), "the scale is computed"
        assert (latents.low, latents.high) == (0, 1)
    assert all(torch.equal(made[0][k], v) for k, v in net.state_dict().items())
    assert any(not torch.equal(made[3][k], v) for k, v in net.state_dict().items())


def test_other_content_under_the_same_name_is_another_training(kl, tmp_path):
    from equipoise.engines.parts.learned.keeping import kept_in

    _, file, config = kl
    used = []
    for seed in (0, 1):
        torch.save(drawn(AutoencoderKL, seed, **KL).state_dict(), file)
        (tmp_path / "kl.safetensors").unlink(missing_ok=True)
        import_checkpoint(file, tmp_path / "kl.safetensors", "CC0-1.0", config)
        engine = Flow(**FITTING, autoencoder=str(tmp_path / "kl.safetensors"), autoencoder_steps=0)
        with kept_in(tmp_path / "kept") as folders:
            engine.fit(phantom_cases(3), rng_for(0))
            used.append(set(folders))
    assert not used[0] & used[1]


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (AutoencoderKL, KL),
        (AutoencoderKL, {**KL, "num_res_blocks": [2, 1, 2], "with_encoder_nonlocal_attn": True}),
        (AutoencoderKL, {**KL, "with_decoder_nonlocal_attn": True, "use_convtranspose": True}),
        (AutoencoderKL, {**KL, "attention_levels": [False, True, True], "include_fc": False}),
        (AutoencoderKL, {**KL, "attention_levels": [False, False, True], "with_encoder_nonlocal_attn": True}),
        (AutoencoderKL, {**KL, "spatial_dims": 3, "in_channels": 2, "out_channels": 2}),
        (AutoencoderKlMaisi, {**MAISI, "norm_float16": False, "num_splits": 1}),
    ],
    ids=["plain", "attends whole", "transposed", "attends", "both", "3-D of 2", "MAISI"],
)
def test_an_architecture_is_read_from_its_weights(cls, arguments):
    net = drawn(cls, **arguments)
    found = autoencoder_from_shapes(net.state_dict(), 4, "file")
    again = build(found).eval()
    again.load_state_dict(net.state_dict())
    assert found["class"] == cls.__name__
    image = torch.rand((1, arguments["in_channels"], *[16] * arguments["spatial_dims"]))
    with torch.no_grad():
        assert torch.allclose(again.reconstruct(image), net.reconstruct(image), atol=1e-5)


def test_groups_are_asked_for_and_no_guess_is_made(kl, tmp_path):
    _, file, config = kl
    config.unlink()
    with pytest.raises(EngineError, match=r"(?s)how many groups.*--groups 32"):
        import_checkpoint(file, tmp_path / "o.safetensors", "CC0-1.0")
    about = import_checkpoint(file, tmp_path / "o.safetensors", "CC0-1.0", groups=4)
    assert about["parts"]["autoencoder"]["architecture"]["with"]["norm_num_groups"] == 4
    with pytest.raises(EngineError, match="do not fit any known one"):
        import_checkpoint(file, tmp_path / "p.safetensors", "CC0-1.0", groups=3)


def test_safetensors_are_read(kl, tmp_path):
    net, _, config = kl
    save_file(net.half().state_dict(), tmp_path / "half.safetensors")
    import_checkpoint(tmp_path / "half.safetensors", tmp_path / "o.safetensors", "CC0-1.0", config)
    found = read_imported(str(tmp_path / "o.safetensors"), "autoencoder")
    assert all(v.dtype == torch.float32 for v in found.tensors.values())
    assert torch.equal(found.tensors["quant_conv_mu.conv.bias"], net.quant_conv_mu.conv.bias.float())


@dataclass
class Bomb:
    path: str

    def __reduce__(self):
        return open, (self.path, "w")


def _write_bomb(path, net):
    torch.save({"state_dict": net.state_dict(), "hook": Bomb(str(path.parent / "exploded"))}, path)


def _write_truncated(path, net):
    data = io.BytesIO()
    torch.save(net.state_dict(), data)
    path.write_bytes(data.getvalue()[:-400])


def _write_nan(path, net):
    state = net.state_dict()
    torch.save({**state, "quant_conv_mu.conv.bias": torch.full((3,), float("nan"))}, path)


def _write_unet(path, net):
    small = {"channels": (8, 8), "attention_levels": (False, False), "num_res_blocks": 1, "norm_num_groups": 8}
    other = DiffusionModelUNet(2, 3, 3, num_head_channels=8, **small)
    torch.save(other.state_dict(), path)


def _write_wider(path, net):
    torch.save(drawn(AutoencoderKL, **{**KL, "channels": [8, 16, 16]}).state_dict(), path)


@pytest.mark.parametrize(
    ("write", "error", "words"),
    [
        (_write_bomb, UnreadableFileError, "reading it would run code"),
        (_write_truncated, UnreadableFileError, "cannot be read"),
        (lambda path, net: path.write_bytes(b""), UnreadableFileError, "cannot be read"),
        (lambda path, net: path.write_bytes(b"\x80\x02}q\x00."), UnreadableFileError, "cannot be read"),
        (lambda path, net: torch.save({"epoch": 3}, path), UnreadableFileError, "no weights"),
        (_write_nan, UnreadableFileError, "not numbers"),
        (_write_unet, EngineError, "no autoencoder .* was found"),
        (_write_wider, EngineError, "do not fit any of the 1 autoencoder"),
    ],
    ids=["code", "truncated", "empty", "nothing", "no weights", "nan", "another network", "another width"],
)
def test_what_cannot_be_imported_leaves_nothing(kl, tmp_path, write, error, words):
    net, file, config = kl
    write(file, net)
    before = set(tmp_path.iterdir())
    with pytest.raises(error, match=words):
        import_checkpoint(file, tmp_path / "o.safetensors", "CC0-1.0", config)
    assert set(tmp_path.iterdir()) == before


def test_a_missing_licence_is_asked_for(kl, tmp_path):
    _, file, config = kl
    with pytest.raises(EngineError, match=r'(?s)under which licence.*--licence "Apache-2.0"'):
        import_checkpoint(file, tmp_path / "o.safetensors", config=config)
    assert not (tmp_path / "o.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [("gone.pt", "no such file"), ("kl.json", "no kind of checkpoint"), ("bad.zip", "zip cannot be read")],
)
def test_files_that_are_no_checkpoints(kl, tmp_path, name, words):
    (tmp_path / "bad.zip").write_bytes(b"PK no")
    with pytest.raises(UnreadableFileError, match=words):
        import_checkpoint(tmp_path / name, tmp_path / "o.safetensors", "CC0-1.0")


def test_what_exists_is_not_overwritten(kl, tmp_path):
    _, file, config = kl
    (tmp_path / "o.safetensors").write_text("mine")
    with pytest.raises(WorkspaceError, match="not overwritten"):
        import_checkpoint(file, tmp_path / "o.safetensors", "CC0-1.0", config)
    with pytest.raises(WorkspaceError, match=r"\.safetensors"):
        import_checkpoint(file, tmp_path / "o.pt", "CC0-1.0", config)


def test_a_damaged_configuration_is_said(kl, tmp_path):
    _, file, config = kl
    config.write_text("{")
    with pytest.raises(EngineError, match="configuration cannot be read"):
        import_checkpoint(file, tmp_path / "o.safetensors", "CC0-1.0", config)


@pytest.mark.parametrize(
    ("cases", "options", "error", "words"),
    [
        (lambda: phantom_cases(3, channels=3), {}, EngineError, r"reads 2-D images of 1 channel\(s\), .* 2-D of 3"),
        (lambda: phantom_cases(3, dimension=3), {}, EngineError, "these are 3-D of 1"),
        (lambda: phantom_cases(3), {"velocity": "FILE"}, EngineError, "holds no velocity"),
        (lambda: phantom_cases(3), {"autoencoder": "gone.safetensors"}, UnreadableFileError, "no such file"),
    ],
    ids=["channels", "dimension", "no velocity", "no file"],
)
def test_an_imported_network_that_does_not_fit_is_refused(kl, tmp_path, cases, options, error, words):
    _, file, config = kl
    out = tmp_path / "kl.safetensors"
    import_checkpoint(file, out, "CC0-1.0", config)
    named = {"autoencoder": str(out)} | {k: str(out) if v == "FILE" else v for k, v in options.items()}
    fields = {k: v for k, v in FITTING.items() if k != "channels" or "velocity" not in named}
    with pytest.raises(error, match=words):
        Flow(**fields, **named, autoencoder_steps=0).fit(cases(), rng_for(0))


def test_without_a_file_the_autoencoder_must_be_trained():
    with pytest.raises(PlanError, match="autoencoder_steps"):
        Flow(**FITTING, autoencoder_steps=0).fit(phantom_cases(3), rng_for(0))
