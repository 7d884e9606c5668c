from pomona.report import html, text


def test_what_is_approximate_says_which_normaliser_and_the_way_around(sample):
    told = " ".join(text(sample, width=200).split())
    assert "Approximate over 1 group, which a normaliser looks across: norm.channels (layer_norm at blocks.0.norm" in told
    assert "and 2 more); --exact prunes around them." in told
    assert "layer_norm at blocks.0.norm" in html(sample) and "exact=True" in html(sample)


def test_what_was_held_at_its_minimum_is_named(sample):
    assert "Held at the least that may stay: fc1.out." in text(sample, width=200)
    sample["sites"][0]["held"] = False
    assert "Held" not in text(sample)


def test_reports_from_before_say_the_groups_alone(sample):
    for site in sample["sites"]:
        del site["held"], site["normalisers"]
    assert "norm.channels ()" not in text(sample) and "norm.channels" in html(sample)
