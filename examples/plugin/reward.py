"""A reward in Python: how near a completion comes to the sum that was asked for."""
import rlvr_plugin


def score(item):
    """1 for the right sum; less the further off a number is; 0 for what is no number."""
    text = item["completion"].strip()
    if not (text.isascii() and text.isdigit()):
        return 0.0, "not a number"
    off = abs(int(text[:9]) - int(item["reference"]["answer"]))
    if off == 0:
        return 1.0, "right"
    return 0.5 / (1.0 + off / rlvr_plugin.config.get("scale", 1.0)), f"off by {off}"


if __name__ == "__main__":
    rlvr_plugin.serve(score, name="near_sum")
