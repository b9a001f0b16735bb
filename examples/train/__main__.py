"""`python -m examples.train`: trains the example models and prints their accuracy on test data.

It writes the weights that the model server loads, the example images, and the
example film.
"""

from pathlib import Path

from examples.model_server.model import WEIGHTS

from . import digits, film, sentiment

EXAMPLES = Path(__file__).resolve().parent.parent


def main() -> None:
    WEIGHTS.mkdir(exist_ok=True)
    _train_sentiment()
    _train_digits()
    film.write(EXAMPLES / "digits.mp4")


def _train_sentiment() -> None:
    rated, sentences = sentiment.rated_words(), sentiment.held_out_sentences()
    neutral = sentiment.neutral_words(rated)
    for version in ("v1", "v2"):
        model = sentiment.train(version, rated, neutral)
        sentiment.save(model)
        accuracy = sentiment.accuracy(model, sentences)
        print(f"sentiment {version}: {accuracy:.3f} of {len(sentences)} sentences")
    splits = (("words", None), ("words with new prefixes", sentiment.PREFIX_LENGTH))
    for kind, letters in splits:
        train_words, test_words = sentiment.split_words(rated, letters)
        accuracy = sentiment.word_accuracy(sentiment.train("v2", train_words, neutral), test_words)
        print(f"sentiment v2: {accuracy:.3f} of {len(test_words)} held-out {kind}")


def _train_digits() -> None:
    images, labels, test_images, test_labels = digits.split_images()
    for version in ("v1", "v2"):
        model = digits.train(version, images, labels)
        digits.save(version, model)
        accuracy = digits.accuracy(model, test_images, test_labels)
        jpeg = digits.accuracy(model, digits.through_jpeg(test_images), test_labels)
        print(f"digits {version}: {accuracy:.3f} of {len(test_labels)} images, {jpeg:.3f} as JPEG")
    seven = digits.to_image(test_images[test_labels == 7][0])
    seven.save(EXAMPLES / "digit-7.jpg", quality=85)
    seven.save(EXAMPLES / "digit-7.png", optimize=True)


if __name__ == "__main__":
    main()
