"""A chain: search, promotion, teacher, training, distillation, fewer steps, decoder, export and what a picture takes on
a phone, one after another. Each stage is commands that a user could type, run as they are; what a stage gave is read
from the store.

    definition   sweeps/chains/NAME.yaml, and what is wrong with it
    settings     what each stage is trained by
    step         a stage's commands, and how it stands
    promotion    that of the promotion, and whether what it wrote stands
    samples      those about a network's samples and their scores
    stages       each stage's commands, and which of them are still to be run
    runner       runs them: one chain a folder, signals passed on
    plan         what the chain would take
    summary      what its page is of
"""
