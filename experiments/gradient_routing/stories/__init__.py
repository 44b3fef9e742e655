"""Expand, route, ablate (ERA) on stories, beside data filtering, RMU and SGTM.

All methods see the same batches. A fraction of the stories about the topic is labelled
forget; unlabelled stories are trained on like any other.

  base          trained on everything, without labels
  filtering     trained on everything except what is labelled forget
  rmu           base, then RMU against what is labelled forget
  control       new MLP units that are ablated after training, without routing
  era           labelled stories are routed to the new units: each token by how much
                more often it occurs in them than elsewhere
  era_coherent  the same with the coherence term, the loss of the ablated model
  sgtm          masks on parameters; new MLP units and heads are ablated

Ablated models are repaired by a few updates on a few retain stories. Then each model is
retrained on a few held-out forget stories at several learning rates; the lowest loss on
other forget stories that any of these runs reaches is what counts.

  unlearning        = forget loss of the method's model - that of the model before
  robust unlearning = lowest forget loss in retraining on the most stories - that of the
                      model before

The model before is the method's own model before ablation; for filtering and rmu it is
base.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2 and appendix;
the coherence term is in the authors' demonstration of two parameters. RMU: arXiv
2403.03218. SGTM: arXiv 2512.05648.
"""
