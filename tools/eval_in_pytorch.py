#!/usr/bin/env python3
"""Loads a checkpoint of Rondo strictly into the PyTorch reference and measures it there: bits per byte over the beginning of
a text, states and memories carried. `rondo eval CHECKPOINT --data TEXT --bytes N` prints the same number.

usage: eval_in_pytorch.py CHECKPOINT TEXT [BYTES]     (BYTES: default 16384, a multiple of max_seq_len)

Needs `pip install torch einops beartype packaging safetensors` and
`pip install --no-deps block-recurrent-transformer-pytorch==0.3.2`; Python 3.11 or later.
"""
import json
import math
import sys
import tomllib

import torch
from block_recurrent_transformer_pytorch import BlockRecurrentTransformer
from safetensors.torch import load_file

checkpoint, text = sys.argv[1:3]
n_bytes = int(sys.argv[3]) if len(sys.argv) > 3 else 16384

options = tomllib.loads(json.load(open(checkpoint + '/run.json'))['config'])['model']
scale = options.pop('qk_norm_scale')
for departure in ('init', 'ema_beta_init'):  # of the first weights only
    options.pop(departure)
model = BlockRecurrentTransformer(**{**options, 'recurrent_layers': tuple(options['recurrent_layers'])})
model.load_state_dict(load_file(checkpoint + '/model.safetensors'))  # strict: every name, every shape
if scale:  # the reference divides by sqrt(dim_head) always, so the other scale goes into the queries
    for name, parameter in model.named_parameters():
        if name.endswith('q_scale'):
            parameter.data *= scale * math.sqrt(options['dim_head'])
model.eval()

segment = model.max_seq_len
tokens = torch.tensor(list(open(text, 'rb').read(n_bytes + 1)))[None]
memories, states, nats = [], [], 0.
with torch.no_grad():
    for start in range(0, n_bytes, segment):
        loss, memories, states = model(tokens[:, start:start + segment + 1], return_loss=True, xl_memories=memories,
                                       states=states)
        nats += loss.item() * segment
print(f'{nats / n_bytes / math.log(2):.4f} bits per byte over {n_bytes} bytes')
