"""The divergence from the teacher's next-token distribution."""

from torch import Tensor

from inheritune.training.terms.rows import Rows


def logits(rows: Rows) -> tuple[Tensor, Tensor]:
    """Temperature² times the KL divergence of each row in nats, (N,), and its gradient (N, V).

    The square keeps the gradient about as large as at temperature 1.

    `forward` is KL(teacher ‖ model), which covers all that the teacher does; `reverse` is KL(model ‖ teacher).
    """
    assert rows.teacher_NV is not None
    temperature = rows.wanted.temperature
    ours = (rows.logits_NV / temperature).log_softmax(1)
    theirs = (rows.teacher_NV / temperature).log_softmax(1)
    if rows.wanted.direction == "forward":
        taught = theirs.exp()
        kl = (taught * (theirs - ours)).sum(1)
        return kl * temperature**2, (ours.exp() - taught) * temperature
    surprise, own = ours - theirs, ours.exp()
    kl = (own * surprise).sum(1)
    return kl * temperature**2, own * (surprise - kl[:, None]) * temperature
