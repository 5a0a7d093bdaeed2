"""Choose the text that `gen quality` scores the bundled model on: questions and answers it was trained on, and definitions it never saw.

usage: tiny_text.py UNPACKED_DIR CORPUS.json OUT.json [CALIBRATION.json]
UNPACKED_DIR and CORPUS.json: as of tiny_corpus.py. Trained: entries of the corpus. Held out: WordNet words that are rarer than the 9,000
from which the corpus was made, whose gloss is not that of a word of the corpus either. Both are drawn with a fixed seed, and asked as in training.
CALIBRATION.json, for `gen quantize --calibrate`: the entries of the corpus that are in neither of them.
"""
import sys, re, json, random, collections, os

X, corpus, out = sys.argv[1].rstrip('/') + '/usr/share/wordnet/', json.load(open(sys.argv[2])), sys.argv[3]
# The words that training left out, so that they are nowhere here either.
line = next(l for l in open(os.path.join(os.path.dirname(__file__), 'tiny_train.py')) if l.startswith('bad='))
bad = re.compile(re.search(r"re\.compile\(r'(.*)',re\.I\)", line).group(1), re.I)

counts = collections.Counter()
for line in open(X + 'cntlist.rev'):
    key, _, n = line.split()
    counts[key.split('%')[0]] += int(n)
common = {word for word, _ in counts.most_common(9000)}
glosses = {}
for pos, tag in (('noun', 'noun'), ('verb', 'verb'), ('adj', 'adjective'), ('adv', 'adverb')):
    text = {}
    for line in open(X + f'data.{pos}'):
        if line.startswith('  '): continue
        head, gloss = line.split(' | ', 1)
        text[head.split(' ')[0]] = gloss.strip().split('; "')[0].strip()
    for line in open(X + f'index.{pos}'):
        if line.startswith('  '): continue
        fields = line.split()
        first = fields[-int(fields[2])]
        if fields[0] not in glosses and first in text: glosses[fields[0]] = (tag, text[first])

random.seed(2)
def ask(source, term):
    if source == 'devil': return random.choice([f'Define {term}, cynically.', f'What would Ambrose Bierce call {term}?'])
    if source == 'jargon': return random.choice([f'What is {term}?', f'What does {term} mean to a hacker?', f'Explain {term}.'])
    return random.choice([f'Define {term}.', f'What does {term} mean?', f'define {term}'])
def drawn(entries, n):
    kept = [e for e in entries if not bad.search(e[1] + ' ' + e[2])]
    return [{'question': ask(source, term), 'answer': answer} for source, term, answer in random.sample(kept, n)]

known_terms = {term.lower() for _, term, _ in corpus}
known_answers = {answer for _, _, answer in corpus}
unseen = []
for word in sorted(w for w, n in counts.items() if n > 0):
    term = word.replace('_', ' ')
    if word in common or word not in glosses or term in known_terms or not re.match(r'^[a-z][a-z_\-]+$', word): continue
    tag, gloss = glosses[word]
    answer = f'{tag}: {gloss}.'
    if answer not in known_answers and 4 <= len(gloss.split()) <= 40: unseen.append(('wn', term, answer))
texts = {'trained': drawn(corpus, 200), 'held-out': drawn(unseen, 320)}
json.dump({'source': 'Jargon File, The Devil\'s Dictionary and WordNet 3.0, by training/tiny_text.py', 'texts': texts},
          open(out, 'w'), ensure_ascii=False, indent=0)
print({name: len(entries) for name, entries in texts.items()}, len(unseen), 'unseen definitions')

if len(sys.argv) > 4:
    scored = {entry['answer'] for entries in texts.values() for entry in entries}
    others = [entry for entry in corpus if entry[2] not in scored and not bad.search(entry[1] + ' ' + entry[2])]
    json.dump({'source': 'the same corpus', 'texts': {'calibration': drawn(others, len(others))}}, open(sys.argv[4], 'w'), ensure_ascii=False, indent=0)
