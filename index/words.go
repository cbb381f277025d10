package index

import (
	"encoding/binary"

	bleve "github.com/blevesearch/bleve_index_api"

	"mailstead.dev/store/message"
)

// wordSet is the distinct words of an email, by field, in the form in which bleve takes them.
type wordSet struct {
	fields [len(indexFields)]bleve.TokenFrequencies
}

// indexFields are all fields of the index.
var indexFields = [...]string{"from", "to", "cc", "bcc", "subject", fieldHeader, fieldPart, fieldBody, fieldNames, fieldUnsure}

const (
	numNames  = len(indexFields) - 2
	numUnsure = len(indexFields) - 1
)

var fieldNumbers = func() map[string]int {
	m := make(map[string]int)
	for i, name := range indexFields {
		m[name] = i
	}
	return m
}()

// once is what the index is told of a word: no more than that it is there.
var once = &bleve.TokenFreq{}

// counted is what it is told of a word that it may never see again. Where a word
// of one email only is counted once, and in no other way, bleve's merges write no
// postings for it, but the email in the dictionary itself.
func counted() *bleve.TokenFreq {
	f := &bleve.TokenFreq{}
	f.SetFrequency(1)
	return f
}

// rareWords has the words of a batch, by field.
type rareWords [len(indexFields)]bleve.TokenFrequencies

// add counts those words of an email that no other of the batch has, and returns how many it has in all.
func (r *rareWords) add(s *wordSet) (n int) {
	for i, words := range s.fields {
		n += len(words)
		if r[i] == nil {
			r[i] = make(bleve.TokenFrequencies)
		}
		for w := range words {
			f := r[i][w]
			if f == nil {
				f = counted()
				r[i][w] = f
			} else {
				f.SetFrequency(0) // for the first email that had it, too
			}
			words[w] = f
		}
	}
	return n
}

func (s *wordSet) add(field int, word string) {
	if len(word) > maxWord {
		s.unsure()
		return
	}
	set := s.fields[field]
	if set == nil {
		set = make(bleve.TokenFrequencies)
		s.fields[field] = set
	}
	set[word] = once
}

// unsure notes that not all words of the email are there.
func (s *wordSet) unsure() {
	if s.fields[numUnsure] == nil {
		s.fields[numUnsure] = bleve.TokenFrequencies{"1": once}
	}
}

// addText adds the words of a text, given its normalised value.
func (s *wordSet) addText(t message.Text, normalised string) {
	field := fieldNumbers[fieldOf(t)]
	cut(normalised, func(_ int, w string) { s.add(field, w) })
	if !t.Part && !t.Body && t.Header != "" {
		s.add(numNames, t.Header)
	}
}

// wordDocument is an email for bleve: its words, and its number as key.
type wordDocument struct {
	key   string
	words *wordSet
}

// keyOf is the number of an email as the index is keyed.
func keyOf(email uint32) string {
	return string(binary.BigEndian.AppendUint32(nil, email))
}

func (d *wordDocument) ID() string                                 { return d.key }
func (d *wordDocument) Size() int                                  { return 0 }
func (d *wordDocument) NumPlainTextBytes() uint64                  { return 0 }
func (d *wordDocument) StoredFieldsBytes() uint64                  { return 0 }
func (d *wordDocument) Indexed() bool                              { return true }
func (d *wordDocument) AddIDField()                                {}
func (d *wordDocument) HasComposite() bool                         { return false }
func (d *wordDocument) VisitComposite(bleve.CompositeFieldVisitor) {}

func (d *wordDocument) VisitFields(visit bleve.FieldVisitor) {
	visit(&wordField{"_id", []byte(d.key), bleve.IndexField | bleve.StoreField, bleve.TokenFrequencies{d.key: counted()}})
	for i, set := range d.words.fields {
		if len(set) > 0 {
			visit(&wordField{indexFields[i], nil, bleve.IndexField | bleve.SkipFreqNorm, set})
		}
	}
}

type wordField struct {
	name    string
	value   []byte
	options bleve.FieldIndexingOptions
	words   bleve.TokenFrequencies
}

func (f *wordField) Name() string                                     { return f.name }
func (f *wordField) Value() []byte                                    { return f.value }
func (f *wordField) ArrayPositions() []uint64                         { return nil }
func (f *wordField) EncodedFieldType() byte                           { return 't' }
func (f *wordField) Analyze()                                         {}
func (f *wordField) Options() bleve.FieldIndexingOptions              { return f.options }
func (f *wordField) AnalyzedLength() int                              { return 1 }
func (f *wordField) AnalyzedTokenFrequencies() bleve.TokenFrequencies { return f.words }
func (f *wordField) NumPlainTextBytes() uint64                        { return 0 }
