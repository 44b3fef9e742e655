"""A steering scalar: one token's gradients are routed to one residual dimension.

At positions whose target is the chosen word, the gradient of the residual stream after
some layers passes through one dimension alone, with its own weight. Does the dimension
then stand for the word? The vocabulary's projection on the dimension shows which other
words it stands for, and adding a constant to it while text is sampled may steer the
text to these words. A control model with the same initial weights and batches is
trained without routing.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1.
"""
