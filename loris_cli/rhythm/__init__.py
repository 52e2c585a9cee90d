"""Visual rhythm: the times at which a performer changes their motion.

    keypoints -> motion -> directogram -> onset envelope -> peaks -> impacts

No learned weights and no torch: the rhythm of a video is computed once and stored.
"""
