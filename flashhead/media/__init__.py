"""Sound and video in and out: audio sources, resampling, speakers, the mp4 writer."""
