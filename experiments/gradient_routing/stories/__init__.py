"""Expand, route, ablate on stories, beside data filtering, RMU and SGTM.

All methods see the same batches; a fraction of the stories about the topic is labelled
forget, and unlabelled stories are trained on like any other.

  base          everything, without labels
  filtering     everything but what is labelled forget
  rmu           base, then RMU against what is labelled forget
  control       new MLP units that are ablated after training, without routing
  era           labelled stories are routed to the new units: each token by how much
                more often it occurs in them than elsewhere
  era_coherent  the same with the coherence term, the loss of the ablated model
  sgtm          masks on parameters; new MLP units and heads are ablated

Ablated models are repaired by a few updates on a few retain stories. Then each model is
retrained on a few held-out forget stories at several learning rates; what counts is the
lowest loss on other such stories that any of them reaches.

  unlearning        = forget loss of the method's model - of the one before
  robust unlearning = the lowest in retraining on the most stories - of the one before

The one before is the method's own model before ablation; for filtering and rmu, base.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.2 and appendix;
the coherence term is in the authors' demonstration of two parameters. RMU: arXiv
2403.03218. SGTM: arXiv 2512.05648.
"""
