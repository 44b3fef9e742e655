"""The tug of war: old and new parts pull against each other, and how to stop it.

Retain data pulls the sum of the old and the new part to one value. Forget data, which
trains only the new part, pulls it to another value. Neither pull ends, and after
ablation the old part is far from what retain data needs. The coherence term, which is
the retain loss of the ablated model, brings both parts to rest. The study shows this
twice:

  two parameters  retain (a + b - 2)^2, forget (stop(a) + b - 1)^2,
                  coherence c (a - 2)^2; without it a + b -> 5/3 while a and b drift by
                  +-2/3 of the learning rate per update, with it they come to rest
  two tasks       one hidden layer learns cos(2 x2) - x3 (forget) and sin(2 x0) + x1
                  (retain), told apart by two flags; new hidden units are then ablated

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, appendix and the authors'
demonstration of two parameters; the two tasks are ours.
"""
