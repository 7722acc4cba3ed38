"""A fresh process: importing, a first summary, a first training step. `python benchmarks/cold_start.py`"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
SETUP = f"import sys; sys.path.insert(0, {str(HERE)!r}); import torch; torch.set_num_threads(1)\n"
OURS = SETUP + "from build import inception\nmodel = inception()\nmodel.summary(print_fn=lambda text: None)\n"
SCRIPTS = {
    "import torch": SETUP,
    "import hornbeam": SETUP + "import hornbeam\n",
    "hornbeam: inception built, summary printed": OURS,
    "hornbeam: and a first training step": OURS
    + "import hornbeam\nmodel.compile('adam', hornbeam.losses.SparseCategoricalCrossentropy(from_logits=True))\n"
    + "model.fit(torch.rand(128, 28, 28, 1), torch.randint(10, (128,)), batch_size=128, verbose=0)\n",
    "hand-written: inception and a first training step": SETUP
    + "import torch.nn.functional as F\nfrom handwritten import TorchInception\nnet = TorchInception()\n"
    + "optimizer = torch.optim.Adam(net.parameters(), fused=True)\n"
    + "loss = F.cross_entropy(net(torch.rand(128, 28, 28, 1)), torch.randint(10, (128,)))\nloss.backward()\noptimizer.step()\n",
}

if __name__ == "__main__":
    taken: dict[str, list[float]] = {name: [] for name in SCRIPTS}
    for _ in range(5):
        for name, script in SCRIPTS.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", script], check=True)
            taken[name].append(time.perf_counter() - start)
    base = statistics.median(taken["import torch"])
    for name, times in taken.items():
        print(f"{name:55s} {statistics.median(times):6.2f} s   {statistics.median(times) - base:+6.2f} s over import torch")
