"""Visual rhythm: times and strengths of the motion peaks of a performer.

    keypoints -> motion -> directogram -> onset envelope -> peaks -> impacts

Uses no learned weights and no torch. The rhythm of a video is computed once and stored.
"""
