"""How long a detector is trained, and at which learning rate: detectron2's 1x and 2x, scaled."""

from dataclasses import dataclass

USUAL_BATCH = 16  # images a step of the published schedules
USUAL_STEPS = 90_000  # of 1x
USUAL_IMAGES = 117_266  # COCO train2017 that show something
USUAL_RATE = 0.02
USUAL_WARMUP = 1000
DROPS = (2 / 3, 8 / 9)  # of the steps; 60,000 and 80,000 of 1x


@dataclass(frozen=True)
class Schedule:
    """steps of `batch` images; the learning rate after the warm-up is `highest`."""

    steps: int
    batch: int
    highest: float
    warmup: int

    @classmethod
    def scaled(
        cls, name: str, num_images: int, batch: int, highest: float | None = None
    ) -> "Schedule":
        """name: "1x", "2x", ..., or a number of steps.

        Each image is seen as often as in the published schedule (12.3 times in 1x), and the rate
        grows with the batch (Goyal et al. 2017). A short schedule warms up over a tenth of it.
        ValueError where the name is neither.
        """
        try:
            if name.endswith("x"):
                seen = float(name[:-1]) * USUAL_STEPS * USUAL_BATCH / USUAL_IMAGES
                steps = max(1, round(seen * num_images / batch))
            else:
                steps = int(name)
        except ValueError as error:
            raise ValueError(f"--schedule {name}: name 1x, 2x, or a number of steps") from error
        if steps < 1:
            raise ValueError(f"--schedule {name}: at least one step")
        if highest is None:
            highest = USUAL_RATE * batch / USUAL_BATCH
        return cls(steps, batch, highest, min(USUAL_WARMUP, -(-steps // 10)))

    def rate(self, step: int) -> float:
        """The learning rate of step 1, 2, ..."""
        if step <= self.warmup:
            return self.highest * step / self.warmup
        return self.highest * 0.1 ** sum(step > share * self.steps for share in DROPS)
