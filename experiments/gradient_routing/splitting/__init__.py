"""Split representations: an autoencoder whose code holds two kinds of images apart.

The encoder's output is routed: images of group 0 train its first half alone, images
of group 1 its second. A certificate is a decoder that is given one half and no more,
and is trained on all images: what it cannot reconstruct is not in its half.

Letters of this study: B images, P pixels, Z units of the code, G = 2 groups of
images, H = 2 halves of the code.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1 and appendix B.
"""
