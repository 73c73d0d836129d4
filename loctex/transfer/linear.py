"""Linear probes of frozen features: numpy in, numbers out (METHOD section 4).

N images, C channels, K classes. Labels are 1 shown, -1 not shown, 0 takes no part.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.linear_model import RidgeCV
from sklearn.metrics import average_precision_score
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

ALPHAS = np.logspace(-5, 3, 17)
COSTS = (0.01, 0.1, 1.0, 10.0)
FOLDS = 3
MAX_ITERATIONS = 2000
SHOTS = (1, 2, 4, 8, 16, 32, 64, 96)
SAMPLES = 5


@dataclass(frozen=True)
class ClassScore:
    """ap: of the test images. cost: chosen on the training images. num_train: its positives."""

    ap: float
    cost: float
    num_train: int
    num_test: int
    is_converged: bool


def svm(cost: float) -> LinearSVC:
    """The classifier of one class, as in VirTex's public code; the seed is ours."""
    return LinearSVC(
        C=cost,
        class_weight={1: 2, -1: 1},
        penalty="l2",
        loss="squared_hinge",
        max_iter=MAX_ITERATIONS,
        random_state=0,
    )


def score_class(
    train: np.ndarray, train_values: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> ClassScore:
    """(N, C) features and (N,) labels of one class, to train and to test on."""
    train, train_values = train[train_values != 0], train_values[train_values != 0]
    test, truth = test[truth != 0], truth[truth != 0]

    by_cost = [
        cross_val_score(
            svm(cost), train, train_values, cv=FOLDS, scoring="average_precision"
        ).mean()
        for cost in COSTS
    ]

    cost = COSTS[int(np.argmax(by_cost))]
    model = svm(cost).fit(train, train_values)
    return ClassScore(
        ap=float(average_precision_score(truth > 0, model.decision_function(test))),
        cost=cost,
        num_train=int((train_values > 0).sum()),
        num_test=int((truth > 0).sum()),
        is_converged=bool(np.max(model.n_iter_) < MAX_ITERATIONS),
    )


def score(
    train: np.ndarray,
    train_values: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    num_jobs: int = -1,
) -> list[dict]:
    """`ClassScore` of each column of the (N, K) labels, computed in parallel."""
    rows = Parallel(num_jobs)(
        delayed(score_class)(train, train_values[:, k], test, truth[:, k])
        for k in range(train_values.shape[1])
    )
    return [asdict(row) for row in rows]


def neighbors(
    train: np.ndarray,
    train_values: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    count: int = 20,
    temperature: float = 0.07,
) -> float:
    """Mean AP over classes of a vote among the most similar training images: the quick number.

    A neighbor's vote weighs exp(cosine / temperature), as in DINO's public code (Caron et al.,
    ICCV 2021). The neighbors for a class are among the images that take part in it.
    """
    cosine = test @ train.T  # (test, train)
    nearest = np.argsort(-cosine, axis=1, kind="stable")
    weight = np.exp((np.take_along_axis(cosine, nearest, axis=1) - 1) / temperature)

    scores = np.empty(truth.shape)
    for k in range(train_values.shape[1]):
        enough = count + int((train_values[:, k] == 0).sum())
        labels = train_values[nearest[:, :enough], k]
        votes = (labels != 0) & ((labels != 0).cumsum(axis=1) <= count)
        votes = weight[:, :enough] * votes
        scores[:, k] = (votes * (labels > 0)).sum(axis=1) / votes.sum(axis=1)

    return mean_ap(scores, truth)


def low_shot(
    train: np.ndarray,
    train_values: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    shots: Sequence[int] = SHOTS,
    num_jobs: int = -1,
) -> dict[int, dict[str, float]]:
    """k positives of each class and (K - 1) k negatives (at most as many as there are) -> mAP.

    The mean and standard deviation over five samples; the images of a smaller k are among those
    of a larger one. A k that some class cannot fill is not in the result: its mean would be over
    other classes. Sizes as in Goyal et al. (ICCV 2019), at C = 1 (ours: no cost can be chosen
    from one image).
    """
    num_classes = train_values.shape[1]
    shots = [k for k in shots if k <= (train_values > 0).sum(axis=0).min()]

    jobs = [(k, s, c) for k in shots for s in range(SAMPLES) for c in range(num_classes)]
    scores = Parallel(num_jobs)(
        delayed(_score_few)(
            train, train_values[:, c], test, truth[:, c], few(train_values, c, k, sample)
        )
        for k, sample, c in jobs
    )

    means = np.reshape(scores, (len(shots), SAMPLES, num_classes)).mean(axis=2)
    return {
        k: {"mean": float(row.mean()), "std": float(sample_deviation(row))}
        for k, row in zip(shots, means, strict=True)
    }


def few(train_values: np.ndarray, column: int, k: int, sample: int) -> np.ndarray:
    """The rows drawn for one class of the (N, K) labels: k positives, (K - 1) k negatives."""
    random = np.random.default_rng((sample, column))
    positive = random.permutation(np.flatnonzero(train_values[:, column] > 0))[:k]
    negative = random.permutation(np.flatnonzero(train_values[:, column] < 0))
    return np.sort(np.concatenate((positive, negative[: max(1, train_values.shape[1] - 1) * k])))


def _score_few(
    train: np.ndarray,
    train_values: np.ndarray,
    test: np.ndarray,
    truth: np.ndarray,
    rows: np.ndarray,
) -> float:
    model = svm(1.0).fit(train[rows], train_values[rows])
    keep = truth != 0
    return float(average_precision_score(truth[keep] > 0, model.decision_function(test[keep])))


def ridge(train: np.ndarray, train_values: np.ndarray, test: np.ndarray) -> np.ndarray:
    """(M, K) scores of the test images by least squares on labels of -1 and 1.

    Each class's penalty is chosen by exact leave-one-out on the training images, in one solution
    for all penalties and classes: it works from two images on, and has nothing to tune (ours).
    """

    if (train_values != 0).all():
        model = RidgeCV(ALPHAS, alpha_per_target=True).fit(train, train_values.astype(float))
        return model.predict(test).reshape(len(test), train_values.shape[1])

    columns = []
    for k in range(train_values.shape[1]):
        keep = train_values[:, k] != 0
        few = keep.sum() < 2
        columns.append(
            np.zeros((len(test), 1))
            if few
            else ridge(train[keep], train_values[keep, k : k + 1], test)
        )

    return np.hstack(columns)


def accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Share of images whose highest score is that of the one class they show.

    Images that show none of the classes (theirs was left out) do not count.
    """
    has = (truth > 0).any(axis=1)
    return float((scores[has].argmax(axis=1) == truth[has].argmax(axis=1)).mean())


def sample_deviation(values: np.ndarray) -> np.ndarray:
    """(S, ...) values of S draws -> (...) sample standard deviations (ddof 1); 0 of one draw."""
    return values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1:])


def mean_ap(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean AP over the classes; (N, K) scores and labels."""
    precisions = []
    for k in range(truth.shape[1]):
        keep = truth[:, k] != 0
        precisions.append(average_precision_score(truth[keep, k] > 0, scores[keep, k]))
    return float(np.mean(precisions))
