import pytest

from training.corpora import corpus_format, data_name, read_documents, read_lines

# As the original files have it, each line stands between two spaces, or is one.
WIKITEXT = "".join(
    f" {line} \n" if line else " \n"
    for line in [
        "",
        "= Lobster =",
        "",
        'The <unk> lobster weighs 0 @.@ 7 – 2 @.@ 2 kg . It isn \'t blue . He said " no . "',
        "A well @-@ known <unk> .",
        "",
        "= = Habitat = =",
        "",
        "It lives in the sea .",
        "= Crab =",
        "A crab .",
    ]
)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_lines_read_alike_however_the_file_was_written(tmp_path, ends, last, mark):
    path = tmp_path / "text.txt"
    body = mark + ends.join(["One line.", "", "Zwölf Boxkämpfer…"]) + ends * last
    path.write_bytes(body.encode())
    assert list(read_lines(path)) == ["One line.", "", "Zwölf Boxkämpfer…"]


def test_one_document_a_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\nOne.\nTwo.\nThree.\n\n")
    assert corpus_format(path) == "lines"
    assert list(read_documents(path)) == [["One."], ["Two."], ["Three."]]


def test_a_blank_line_between_documents(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Hi.\nHello.\n \n\nBye.\n")
    assert corpus_format(path) == "blocks"
    assert list(read_documents(path)) == [["Hi.", "Hello."], ["Bye."]]


def test_wikitext_as_running_text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(WIKITEXT)
    assert corpus_format(path) == "wikitext"
    assert list(read_documents(path)) == [
        ["It isn't blue.", 'He said "no."'],
        ["It lives in the sea."],
        ["A crab."],
    ]


def test_wikitext_punctuation_is_joined_again(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(
        " = Title = \n A play @-@ off cost 1 @,@ 500 @.@ 5 dollars , or more ( twice ) . \n"
    )
    assert list(read_documents(path)) == [["A play-off cost 1,500.5 dollars, or more (twice)."]]


def test_wikitext_as_it_stands_keeps_every_line(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(WIKITEXT)
    documents = list(read_documents(path, tokenised=True))
    assert [len(document) for document in documents] == [1, 8, 2]
    assert [line for document in documents for line in document] == WIKITEXT.split("\n")[:-1]


def test_tokenised_text_without_titles_keeps_every_line_too(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("a b c\n\nd e <unk>\n")
    assert list(read_documents(path, tokenised=True)) == [["a b c"], [""], ["d e <unk>"]]


def test_bytes_that_are_no_text_are_refused_by_file_and_line(tmp_path):
    path = tmp_path / "latin.txt"
    path.write_bytes("fine\nna\xefve\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt is not UTF-8 text: see line 2"):
        list(read_documents(path))


def test_files_are_called_by_folder_and_name(tmp_path):
    assert data_name(tmp_path / "diary" / "train.txt") == "diary/train"
