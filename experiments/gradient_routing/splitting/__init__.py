"""Split representations: an autoencoder whose code keeps two kinds of images apart.

The encoder's output is routed: images of group 0 train only its first half, images of
group 1 only its second half. A certificate is a decoder that gets one half alone and is
trained on all images: what it cannot reconstruct is not in that half.

Letters of this study: B images, P pixels, Z units of the code, G = 2 groups of
images, H = 2 halves of the code.

Reference: Cloud et al., Gradient Routing, arXiv 2410.04332, section 4.1 and appendix B.
"""
