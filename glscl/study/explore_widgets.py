"""The widgets of the notebook `explore`: they ask `glscl.study.explore` and `explore_models`, and show the answers."""

import html
import json
from collections.abc import Callable

import ipywidgets as widgets
import plotly.graph_objects as go
from transformers.utils import logging

from glscl.evaluation.results import METRICS
from glscl.metrics import DEPTH
from glscl.report.figures.common import PLOTLY_MIME
from glscl.report.tables import results_html
from glscl.study.explore import (
    ANY,
    HEADER,
    Chosen,
    compare_folders,
    disagreements,
    fact_options,
    filtered,
    first_finished,
    methods_of,
    missing,
    ranked_folders,
    row_text,
)
from glscl.study.explore_models import Opened
from glscl.study.parameters import load_params

SHOWN = 200  # queries in the list at most, and 5 of a comparison at either end
WIDE = {"width": "98%"}
MONOSPACE = "<style>.queries select { font-family: monospace; }</style>"
TROUBLE = (ValueError, OSError)


def note(text: str) -> widgets.HTML:
    """A sentence; its text is escaped."""
    return widgets.HTML(f"<p>{html.escape(text)}</p>")


def drawn(figure: go.Figure) -> widgets.Output:
    """A figure as data, which JupyterLab draws with plotly's own extension: a FigureWidget would send 5 MB for each."""
    data = {PLOTLY_MIME: json.loads(figure.to_json())}
    return widgets.Output(outputs=({"output_type": "display_data", "data": data, "metadata": {}},))


def into(box: widgets.Box, make: Callable[[], list]) -> None:
    """Put the widgets that `make` gives into a box, or one sentence where it fails."""
    try:
        box.children = make()
    except TROUBLE as error:
        box.children = [note(str(error))]


def offer(widget: widgets.Dropdown, options: list, value) -> None:
    """Give a list these entries and choose one; where none was chosen before, ipywidgets would choose none."""
    widget.options = options
    widget.value = value


class Explorer:
    """Four parts, each a widget: `choice`, `search`, `queries` and `comparison`."""

    def __init__(self):
        logging.disable_progress_bar()  # a bar for every model that is opened
        self.params = load_params()
        profile, dataset = first_finished(self.params)
        datasets = [name for of_world in self.params["study"].values() for name in of_world]
        self.profile = widgets.Dropdown(options=[*self.params["profiles"]], value=profile, description="profile")
        self.dataset = widgets.Dropdown(options=datasets, value=dataset, description="dataset")
        self.one, self.other = widgets.Dropdown(description="one"), widgets.Dropdown(description="other")
        self.seed = widgets.Dropdown(description="seed")
        self.best = widgets.IntSlider(3, 1, DEPTH, description="videos")
        self.state, self.opened = widgets.VBox(), None
        rows = [self.profile, self.dataset, self.seed], [self.one, self.other, self.best]
        self.choice = widgets.VBox([*map(widgets.HBox, rows), self.state])
        self._make_search()
        self._make_queries()
        self.comparison = FolderComparison().box
        for widget in (self.profile, self.dataset):
            widget.observe(lambda _: into(self.state, self._open), "value")
        for widget in (self.one, self.other, self.seed):
            widget.observe(lambda _: self._show(), "value")
        self.best.observe(lambda _: self._show_galleries(), "value")
        into(self.state, self._open)

    # --- what is open

    def _open(self) -> list:
        self.opened = None
        chosen = Chosen.of(self.params, self.profile.value, self.dataset.value)
        trouble = missing(chosen)
        if not trouble:
            opened = Opened(chosen)
            for widget, options, value in (
                (self.one, chosen.methods, chosen.methods[-1]),
                (self.other, chosen.methods, chosen.methods[0]),
                (self.seed, chosen.seeds, chosen.seeds[0]),
            ):
                offer(widget, options, value)
            self._limit(opened)
            self.opened = opened
        self._show()
        if trouble:
            return [note(trouble)]
        methods = opened.ranks["method"].nunique()
        return [note(f"{len(opened.queries):,} test texts; ranks of {methods} methods.")]

    def _limit(self, opened: Opened) -> None:
        low, high = int(opened.queries["words"].min()), int(opened.queries["words"].max())
        self.words.max = max(high, self.words.min) + 1  # a slider needs two different ends
        self.words.min, self.words.max, self.words.value = low, high + 1, (low, high + 1)
        offer(self.events, [ANY, *sorted(opened.queries["events"].unique().tolist())], ANY)
        offer(self.fact, fact_options(opened.queries), ANY)

    def _show(self) -> None:
        into(self.head, self._list)
        into(self.found, self._search)

    def _show_galleries(self) -> None:
        into(self.found, self._search)
        into(self.pair, self._pair)

    # --- a sentence

    def _make_search(self) -> None:
        self.sentence = widgets.Text(
            placeholder="type a sentence, then press Enter", continuous_update=False, layout=WIDE
        )
        self.found = widgets.VBox()
        self.sentence.observe(lambda _: into(self.found, self._search), "value")
        self.search = widgets.VBox([self.sentence, self.found])

    def _search(self) -> list:
        if not self.opened or not self.sentence.value.strip():
            return []
        galleries, remark = self.opened.search(self.sentence.value, self._methods, self.seed.value, self.best.value)
        return [note(remark), self._beside(galleries)]

    @property
    def _methods(self) -> list[str]:
        return [self.one.value, self.other.value]

    def _beside(self, galleries: list[str]) -> widgets.HBox:
        half = {"width": "50%", "overflow": "auto"}
        return widgets.HBox([widgets.HTML(gallery, layout=half) for gallery in galleries])

    # --- queries

    def _make_queries(self) -> None:
        self.words = widgets.IntRangeSlider(description="words", continuous_update=False)
        self.events = widgets.Dropdown(options=[ANY], description="told events")
        self.fact = widgets.Dropdown(options=[ANY], description="fact")
        self.head, self.pair = widgets.VBox(), widgets.VBox()
        self.list = widgets.Select(rows=10, layout=WIDE)
        self.list.add_class("queries")
        for widget in (self.words, self.events, self.fact):
            widget.observe(lambda _: into(self.head, self._list), "value")
        self.list.observe(lambda _: into(self.pair, self._pair), "value")
        filters = widgets.HBox([self.words, self.events, self.fact])
        self.queries = widgets.VBox([widgets.HTML(MONOSPACE), filters, self.head, self.list, self.pair])

    def _list(self) -> list:
        self.list.options = []
        if not self.opened:
            return []
        kept = filtered(self.opened.queries, self.words.value, self.events.value, self.fact.value)
        table = disagreements(self.opened.queries, self.opened.ranks, *self._methods, self.seed.value)
        table = table[table.index.isin(kept.index)]
        lines = [(row_text(row), number) for number, row in table.head(SHOWN).iterrows()]
        self.list.options = [(HEADER, None), *lines]
        said = f"{len(table):,} of {len(self.opened.queries):,} queries, the first {min(len(table), SHOWN)} listed"
        return [note(f"{said}: rank of the right video by {' and by '.join(self._methods)}, and the text.")]

    def _pair(self) -> list:
        if not self.opened or self.list.value is None:
            return []
        opened, row, seed = self.opened, self.list.value, self.seed.value
        query = opened.queries.loc[row]
        galleries = [opened.gallery(method, seed, row, self.best.value) for method in self._methods]
        shown = [note(f"{query['text']} ({query['video']})"), self._beside(galleries)]
        if "glscl" not in opened.chosen.methods:
            return [*shown, note("Frame weights and concepts are GLSCL's, which is not trained here.")]
        looks = opened.looks(seed, row)
        figures = [drawn(looks.weights_figure()), drawn(looks.attention_figure())]
        about = note(f"Where glscl looks in this text and in its own video, {query['video']}:")
        return [*shown, about, widgets.HTML(opened.strip(query["video"])), *figures]


class FolderComparison:
    """Two folders of ranks and a method of each, compared query by query."""

    def __init__(self):
        folders = ranked_folders()
        self.sides = [self._side(name, folders) for name in ("one", "other")]
        self.metric = widgets.Dropdown(
            options=[name for name in METRICS if name.startswith(("R@", "mAP"))], description="metric"
        )
        self.button, self.result = widgets.Button(description="compare"), widgets.VBox()
        self.button.on_click(lambda _: into(self.result, self._compare))
        sides = [widgets.HBox(side) for side in self.sides]
        self.box = widgets.VBox([*sides, widgets.HBox([self.metric, self.button]), self.result])

    def _side(self, name: str, folders: list[str]) -> list:
        folder = widgets.Combobox(
            value=folders[0] if folders else "", options=folders, description=name, continuous_update=False
        )
        method, trouble = widgets.Dropdown(description="method"), widgets.VBox()

        def list_methods() -> list:
            method.options = []
            if folder.value:
                names = methods_of(folder.value)
                offer(method, names, names[0])
            return []

        folder.observe(lambda _: into(trouble, list_methods), "value")
        into(trouble, list_methods)
        return [folder, method, trouble]

    def _compare(self) -> list:
        pairs = [(folder.value, method.value) for folder, method, _ in self.sides]
        if not all(method for _, method in pairs):
            raise ValueError("a comparison needs a method of each folder; name folders that hold ranks.parquet.")
        found = compare_folders(*pairs, self.metric.value)
        ends = [found.table.head(5), found.table.tail(5)]
        titles = "the queries on which one gains most", "and those on which it loses most"
        tables = [widgets.HTML(results_html(*end)) for end in zip(ends, titles, strict=True)]
        return [note(found.sentence()), *tables]
