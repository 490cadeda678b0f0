"""How a page looks: what is cut off, and contrast."""

PHONE = {"width": 390, "height": 844}
LAPTOP = {"width": 1280, "height": 800}


def cut_off(page):
    """Return the elements that reach over the edge of the window, or whose content reaches over their own edge."""
    return page.evaluate(
        """() => [...document.querySelectorAll('body, body *')].filter(element => {
            const style = getComputedStyle(element);
            if (element.closest('svg, thead, script') || style.display === 'inline') return false;
            if (!element.clientWidth) return false;
            const edge = element.getBoundingClientRect().right;
            return edge > document.documentElement.clientWidth + 1 || element.scrollWidth > element.clientWidth + 1;
        }).map(element => `${element.tagName} ${element.id} ${element.className}`)"""
    )


def texts_cut_off(page):
    """Return the texts of figures that reach over the edge of their figure."""
    return page.evaluate(
        """() => [...document.querySelectorAll('.figure')].flatMap(figure => {
            const { left, right } = figure.getBoundingClientRect();
            return [...figure.querySelectorAll('svg text')].filter(text => {
                const box = text.getBoundingClientRect();
                return box.width && (box.left < left - 2 || box.right > right + 2);
            }).map(text => `${figure.id}: ${text.textContent}`);
        })"""
    )


def contrast(a, b):
    """Return the contrast of two colours as CSS writes them, "#rrggbb" or "rgb(r, g, b)", after WCAG 2."""
    low, high = sorted(map(_luminance, (a, b)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour):
    if colour.startswith("#"):
        parts = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    else:
        parts = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [s / 12.92 if (s := part / 255) <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
