"""What the converters of torchvision's data sets share."""

from collections import Counter


def write_classes(dataset, folder):
    """Write the images of one of torchvision's data sets as class folders.

    Args:
        dataset (torchvision.datasets.VisionDataset): Gives a PIL image and a
            label each; has names of ``classes``.
        folder (Path): Gets <class>/<number>.png.
    """
    number = Counter()
    for image, label in dataset:
        name = dataset.classes[label].replace('/', '-')
        path = folder / name / f'{number[name]:04d}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        number[name] += 1
    print(f'wrote {len(dataset)} images to {folder}')
