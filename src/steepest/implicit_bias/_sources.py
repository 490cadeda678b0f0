"""The sources of the theorems, as reasons name them."""

__all__ = [
    "ADAGRAD",
    "ADAM",
    "GENERAL_NORMS",
    "HEAVY_BALL",
    "HOMEWORK",
    "INCLUSIONS",
    "KAKEYA",
    "MINIBATCH_MARGIN",
    "MIRROR_MARGIN",
    "MIRROR_MINIBATCHES",
    "NONSEPARABLE",
    "NORMALISED",
    "NORMS",
    "SEPARABLE",
]

NORMS = "Gunasekar et al. 2018, Characterizing Implicit Bias in Terms of Optimization Geometry, arXiv:1802.08246"
MIRROR_MINIBATCHES = "Azizan and Hassibi 2019, arXiv:1806.00952"
SEPARABLE = "Soudry et al. 2018, The Implicit Bias of Gradient Descent on Separable Data, arXiv:1710.10345"
MINIBATCH_MARGIN = "Nacson, Srebro and Soudry 2019, arXiv:1806.01796"
HEAVY_BALL = "Wang et al. 2022, arXiv:2110.03891"
NONSEPARABLE = "Ji and Telgarsky 2019, The Implicit Bias of Gradient Descent on Nonseparable Data, arXiv:1803.07300"
MIRROR_MARGIN = "Sun et al. 2022, Mirror Descent Maximizes Generalized Margin, arXiv:2205.12808"
NORMALISED = "Fan, Schmidt and Thrampoulidis 2025, Implicit Bias of Spectral Descent and Muon, arXiv:2502.04664"
ADAM = "Zhang, Zou and Cao 2024, The Implicit Bias of Adam on Separable Data, arXiv:2406.10650"
ADAGRAD = "Qian and Qian 2019, The Implicit Bias of AdaGrad on Separable Data, arXiv:1906.03559"
INCLUSIONS = "Benaïm, Hofbauer and Sorin 2005, doi:10.1137/S0363012904439301"
GENERAL_NORMS = "Kelner et al. 2014, An Almost-Linear-Time Algorithm for Approximate Max Flow, arXiv:1304.2338"
KAKEYA = "Kakeya 1914, On the partial sums of an infinite series"
HOMEWORK = "EECS 182, UC Berkeley, Fall 2025, homework 2"
