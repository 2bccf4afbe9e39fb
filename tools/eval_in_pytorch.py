#!/usr/bin/env python3
"""Loads a checkpoint of Rondo strictly into the PyTorch reference and measures it there: bits per byte over the beginning of
a text, states and memories carried, in whole segments. `rondo eval CHECKPOINT --data TEXT --bytes N` prints the same number for as
many bytes.

usage: eval_in_pytorch.py CHECKPOINT TEXT [BYTES]     (at most so many; default 16384)

Needs `pip install torch einops beartype packaging safetensors` and
`pip install --no-deps block-recurrent-transformer-pytorch==0.3.2`; with a vocabulary, sentencepiece. Python 3.11 or later.
"""
import json
import math
import os
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
raw = open(text, 'rb').read(n_bytes + 1000)
if os.path.exists(checkpoint + '/vocabulary.model'):
    from sentencepiece import SentencePieceProcessor
    pieces = SentencePieceProcessor(model_file=checkpoint + '/vocabulary.model')
    ids = pieces.encode(raw.decode(errors='ignore'))
    lengths = [1 if pieces.is_byte(i) else len(pieces.id_to_piece(i).replace('\u2581', ' ').encode()) for i in ids]
else:
    ids, lengths = list(raw), [1] * len(raw)
n, bytes_read = 0, 0  # tokens after the first
while n + segment < len(ids) and bytes_read + sum(lengths[n + 1:n + 1 + segment]) <= n_bytes:
    bytes_read += sum(lengths[n + 1:n + 1 + segment])
    n += segment
if n == 0:
    sys.exit(f'{text}: no whole segment of {segment} tokens within {n_bytes} bytes')
tokens = torch.tensor(ids[:n + 1])[None]
memories, states, nats = [], [], 0.
with torch.no_grad():
    for start in range(0, n, segment):
        loss, memories, states = model(tokens[:, start:start + segment + 1], return_loss=True, xl_memories=memories,
                                       states=states)
        nats += loss.item() * segment
print(f'{nats / bytes_read / math.log(2):.4f} bits per byte over {bytes_read} bytes')
