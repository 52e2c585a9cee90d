"""Visual rhythm: the moments at which a body changes its motion.

    keypoints -> motion -> directogram -> onset envelope -> peaks -> impacts

No learned weights and no torch: the rhythm of a video is computed once and stored.
"""
