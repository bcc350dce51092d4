# Every command works on a fresh machine: it makes .venv and installs what is missing first.
SHELL := /bin/bash
VENV  := .venv
PY    := $(VENV)/bin/python
LAB   := $(VENV)/bin/ddpm-lab
PEERS := .venv-bench
BUDGET ?= cpu
# Two processes of one thread each: the tests are many small ones. Those of a file share what was made once for them. Compiled
# code is kept: the processes that tests start would compile it again.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n 2 --dist loadfile

flag = $(if $($(1)),$(2) $(3)$($(1))$(3))
SAMPLING = $(call flag,SAMPLER,--sampler) $(call flag,STEPS,--steps) $(call flag,SEED,--seed) \
           $(call flag,GUIDANCE,--guidance) $(call flag,WEIGHTS,--weights) $(call flag,DEVICE,--device)
# torchrun would give each of several processes one thread; this much at most, and the lab leaves other runs their share.
SHARE   = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$(( ($$(getconf _NPROCESSORS_ONLN) + $(NPROC) - 1) / $(NPROC) ))}
RUNNER  = $(if $(NPROC),$(SHARE) $(PY) -m torch.distributed.run --standalone --nproc-per-node=$(NPROC) -m ddpm_lab,$(LAB))
RECIPE  = $(EXP) $(SET) --budget $(BUDGET) $(call flag,DEVICE,--device)

.PHONY: run gallery bench bench-backbones bench-memory bench-speed bench-quality bench-nfe bench-evaluations bench-contention bench-third-order bench-verdicts bench-explain bench-few-steps bench-gpu sweep verdict verdicts explain check list play sample evaluate compare ema export sync test test-all fuzz lint setup help clean

# $(call install,ENVIRONMENT,WHAT): the first time pip shows its downloads; an update says no more than it must.
define install
	@test -x $(1)/bin/python || { echo "[1/2] creating $(1)" && python3 -m venv $(1); }
	@echo "[2/2] installing ddpm_lab and its dependencies into $(1) $(if $(wildcard $(1)/.installed),(an update),(some minutes))"
	@$(1)/bin/python -m pip install $(if $(wildcard $(1)/.installed),--quiet) --disable-pip-version-check -c constraints.txt $(2) \
		&& touch $(1)/.installed && echo "installed in $$((SECONDS / 60)) min $$((SECONDS % 60)) s"
endef

help: ## show this help
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## make .venv and install the lab in it (the other commands call this)

# The marker carries the time of the last install: a change of the dependencies installs again.
$(VENV)/.installed: setup.cfg constraints.txt pyproject.toml
	$(call install,$(VENV),-e '.[test]')

run: setup ## EXP=cosine_l1 [SET="train.images=50000 loss.name=l2"] [BUDGET=gpu] [RESUME=1] [NPROC=2]: train, sample, evaluate, report
	@test -n "$(EXP)" || { echo 'make run: name an experiment, such as EXP=cosine_l1' >&2; exit 2; }
	@$(RUNNER) run $(RECIPE) $(if $(RESUME),--resume)

sweep: setup ## SWEEP=schedules_losses [SET=...] [BUDGET=...] [CONFIRM=3 SEEDS=2]: a W&B sweep file run here, without an account; a table and a plot; the best 3 again with 2 fresh seeds each
	@test -n "$(SWEEP)" || { echo 'make sweep: name a sweep, such as SWEEP=schedules_losses' >&2; exit 2; }
	@$(LAB) sweep $(SWEEP) $(SET) --budget $(BUDGET) $(call flag,DEVICE,--device) $(call flag,CONFIRM,--confirm) $(call flag,SEEDS,--seeds)

check: setup ## EXP=cosine_l1 [SET=...] [BUDGET=...] [FULL=1 JSON=1]: validate, print what it is and will take; trains nothing
	@test -n "$(EXP)" || { echo 'make check: name an experiment, such as EXP=cosine_l1' >&2; exit 2; }
	@$(LAB) check $(RECIPE) $(if $(FULL),--full) $(if $(JSON),--json)

list: setup ## [SHELF=losses|experiments|models]: all parts with their options, the experiments, or the models that ship
	@$(LAB) list $(SHELF)

sample: setup ## RUN=results/latest [N=64 SAMPLER= STEPS= SEED= CLASS= GUIDANCE= WEIGHTS=ema|raw OUT=x.npz SET="sampling.clip=0.995"]: a grid, and the images
	@test -n "$(RUN)" || { echo 'make sample: name a run, such as RUN=results/latest' >&2; exit 2; }
	@$(LAB) sample $(RUN) $(SET) $(call flag,N,-n) $(call flag,CLASS,--class,') $(call flag,OUT,--out) $(SAMPLING)

evaluate: setup ## RUN=results/latest|x.npz [N=10000 FEATURES=... EXTRAPOLATE=1 CURVE=nfe AT=5,10,20 SAMPLERS=ddim,unipc and as for sample]: all metrics
	@test -n "$(RUN)" || { echo 'make evaluate: name a run or an .npz, such as RUN=results/latest' >&2; exit 2; }
	@$(LAB) evaluate $(RUN) $(SET) $(call flag,N,-n) $(call flag,FEATURES,--features) $(call flag,CURVE,--curve) $(call flag,AT,--at) \
		$(call flag,SAMPLERS,--samplers) $(if $(EXTRAPOLATE),--extrapolate) $(SAMPLING)

compare: setup ## RUNS="results/a/1 results/b/2 x.npz" [METRIC=KID N=2000 FEATURES=... JSON=1]: rank what was measured alike
	@test -n "$(RUNS)" || { echo 'make compare: name runs, such as RUNS="results/cosine_l1/* results/cosine_l2/*"' >&2; exit 2; }
	@$(LAB) compare $(RUNS) $(call flag,METRIC,--metric) $(call flag,N,-n) $(call flag,FEATURES,--features) $(if $(JSON),--json)

verdict: setup ## A="cosine_l2" B="cosine_l2 loss=huber" [SET=...] [BUDGET=...] [MARGIN=0.15 ALPHA=0.05 PAIRS=10 MINUTES= METRIC=KID/fashion_cnn JSON=1]: is B better than A? pairs of runs until they tell
	@test -n "$(A)" -a -n "$(B)" || { echo 'make verdict: name two recipes, such as A="cosine_l2" B="cosine_l2 loss=huber"' >&2; exit 2; }
	@$(LAB) verdict '$(A)' '$(B)' $(SET) --budget $(BUDGET) $(call flag,DEVICE,--device) $(call flag,METRIC,--metric) \
		$(call flag,MARGIN,--margin) $(call flag,ALPHA,--alpha) $(call flag,PAIRS,--pairs) $(call flag,MINUTES,--minutes) $(if $(JSON),--json)

verdicts: setup ## [JSON=1]: all verdicts, whatever they came to
	@$(LAB) verdicts $(if $(JSON),--json)

explain: setup ## X=results/latest Y=FID=3.4 [WORDS="n=5000 weights=raw" N= MINUTES= FEATURES=... JSON=1]: why two values differ; X and Y are runs, .npz files or a value
	@test -n "$(X)" -a -n "$(Y)" || { echo 'make explain: name two values, such as X=results/latest Y=x.npz or Y=FID=3.4' >&2; exit 2; }
	@$(LAB) explain '$(X)' '$(Y)' $(WORDS) $(call flag,N,-n) $(call flag,MINUTES,--minutes) $(call flag,FEATURES,--features) \
		$(call flag,DEVICE,--device) $(if $(JSON),--json)

ema: setup ## RUN=results/latest STD="0.08 0.12": averages of other lengths from a run's snapshots; then WEIGHTS=ema_std0.080
	@test -n "$(RUN)" -a -n "$(STD)" || { echo 'make ema: name a run and lengths, such as RUN=results/latest STD=0.08' >&2; exit 2; }
	@$(LAB) ema $(RUN) --std $(STD)

export: setup ## RUN=results/latest DIR=my_model [WEIGHTS=ema|raw LICENCE=MIT]: the network as a folder, for the lab and for diffusers
	@test -n "$(RUN)" -a -n "$(DIR)" || { echo 'make export: name a run and a new folder, such as RUN=results/latest DIR=my_model' >&2; exit 2; }
	@$(LAB) export $(RUN) $(DIR) $(call flag,WEIGHTS,--weights) $(call flag,LICENCE,--licence,')

play: $(VENV)/.play ## [RUN=results/latest HOST=0.0.0.0 PORT=]: the playground, a page in the browser with samples that come about
	@$(LAB) play $(RUN) $(call flag,HOST,--host) $(call flag,PORT,--port) $(call flag,DEVICE,--device)

$(VENV)/.play: $(VENV)/.installed
	@echo "installing gradio into $(VENV)"
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[play]' && touch $@

sync: setup ## RUN=results/latest: send W&B what it lacks of that run
	@test -n "$(RUN)" || { echo 'make sync: name a run, such as RUN=results/latest' >&2; exit 2; }
	@$(LAB) sync $(RUN)

gallery: setup ## RUN=results/latest: make the images of docs/gallery with that run's network
	@test -n "$(RUN)" || { echo 'make gallery: name a run, such as RUN=results/latest' >&2; exit 2; }
	@$(PY) -m benchmarks.assets.gallery $(RUN)

bench: setup ## SUITE=fashion_cpu [REPORT=1]: its experiments x seeds, compared in benchmarks/reports/<suite>/report.html; resumable
	@test -n "$(SUITE)" || { echo 'make bench: name a suite, such as SUITE=fashion_cpu' >&2; exit 2; }
	@$(LAB) bench $(SUITE) $(call flag,DEVICE,--device) $(if $(REPORT),--report)

bench-backbones: setup ## train each backbone on the same small budget (about an hour on two cores, resumable); the table of docs/backbones.md
	@$(PY) -m benchmarks.backbones

bench-memory: setup ## peak memory of runs at the sizes of CIFAR-10 and ImageNet 64; the last table of docs/backbones.md
	@$(PY) -m benchmarks.memory

# The peers' packages in an environment of their own, at the versions that are pinned.
$(PEERS)/.installed: setup.cfg constraints.txt benchmarks/peers/peers.txt
	$(call install,$(PEERS),-r benchmarks/peers/peers.txt -e .)

bench-speed: $(PEERS)/.installed ## [PARTS="start evaluation"]: images/s of the lab and its peers, in turn (a quarter of an hour on two cores); benchmarks/reports/speed
	@$(PEERS)/bin/python -m benchmarks.speed $(PARTS)

bench-quality: $(PEERS)/.installed ## [PROGRAMS="lab lucidrains"]: FID against training time (hours on two cores, resumable); benchmarks/reports/quality
	@$(PEERS)/bin/python -m benchmarks.quality $(PROGRAMS)

bench-nfe: setup ## RUN=results/latest: FID against evaluations of the network (an hour on two cores, resumable); benchmarks/reports/nfe
	@test -n "$(RUN)" || { echo 'make bench-nfe: name a run, such as RUN=results/latest' >&2; exit 2; }
	@$(PY) -m benchmarks.nfe $(RUN)

bench-evaluations: bench-nfe # its earlier name

bench-contention: setup ## [ROUNDS=20]: images/s of two and three runs at once (a quarter of an hour on two cores, resumable); benchmarks/reports/contention
	@$(PY) -m benchmarks.contention $(call flag,ROUNDS,--rounds)

bench-third-order: setup ## RUNS="results/cosine_l2/x results/flow/y ...": dpmpp_3m_sde's third-order term, over at least six runs; benchmarks/reports/third_order
	@test -n "$(RUNS)" || { echo 'make bench-third-order: name runs, such as RUNS="results/cosine_l2/* results/flow/*"' >&2; exit 2; }
	@$(PY) -m benchmarks.third_order $(RUNS)

bench-verdicts: setup ## how many pairs a verdict takes, by simulation (a minute); the table of docs/decisions.md
	@$(PY) -m benchmarks.verdicts

bench-explain: setup ## [RUN=x.npz]: how often explain names what was planted, and how often where nothing was (ten minutes); benchmarks/reports/explain
	@$(PY) -m benchmarks.explain $(RUN)

bench-few-steps: setup ## RUNS="results/distilled/*": FID after 1, 2, 4, 8 and 15 evaluations, and the table of docs/few-steps.md; benchmarks/reports/few_steps
	@test -n "$(RUNS)" || { echo 'make bench-few-steps: name runs, such as RUNS="results/distilled/*"' >&2; exit 2; }
	@$(PY) -m benchmarks.few_steps $(RUNS)

bench-gpu: setup ## [NETWORKS="dit patch_unet"]: the step on a GPU (ends within ten minutes, resumable); benchmarks/reports/gpu
	@$(PY) -m benchmarks.gpu $(NETWORKS)

test: setup ## what must pass before each commit; no hub, no GPU
	@$(PYTEST) -m 'not slow and not gpu and not hub' $(ARGS)

test-all: setup ## the slow tests too; what needs a GPU is skipped where there is none (the hub: `pytest -m hub`)
	@$(PYTEST) -m 'not hub' $(ARGS)

fuzz: setup ## [N=10000]: mutated experiments, overrides, checkpoints and files, so many of each kind
	@FUZZ=$(or $(N),10000) $(PYTEST) tests/end_to_end/test_fuzz.py $(ARGS)

lint: setup ## ruff, the layers of packages, mypy
	@$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check . && $(VENV)/bin/lint-imports && $(VENV)/bin/mypy

clean: ## remove .venv and caches; results/ stays
	rm -rf $(VENV) $(PEERS) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
