package tokencache

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"
)

// item is one entry of a section: a token, an account, or what is known of a
// client. It keeps every field as it came, so that what other libraries put
// there survives; this one reads and writes the few it knows.
//
// Field values alias the bytes they were read from, which nobody changes.
type item struct {
	key    string  // its name in the section, which only breaks ties (see supersedes)
	fields []field // sorted by name, no name twice, no null
}

var (
	errNotObject     = errors.New("is not an object")
	errDuplicateName = errors.New("has two members of one name")
)

// parseItem reads an item out of a document that is valid JSON.
func parseItem(key string, value []byte) (*item, error) {
	if !isObject(value) {
		return nil, errNotObject
	}
	it := &item{key: key, fields: make([]field, 0, 16)}
	for quoted, v := range members(value) {
		name, _ := unquote(quoted)
		v, err := normalize(name, v)
		if err != nil {
			return nil, err
		}
		it.fields = append(it.fields, field{name: name, value: v})
	}
	slices.SortFunc(it.fields, func(a, b field) int { return strings.Compare(a.name, b.name) })
	for i := 1; i < len(it.fields); i++ {
		if it.fields[i].name == it.fields[i-1].name {
			return nil, errDuplicateName
		}
	}
	it.fields = slices.DeleteFunc(it.fields, func(f field) bool { return f.value == nil })
	return it, nil
}

func (it *item) find(name string) (int, bool) {
	return slices.BinarySearchFunc(it.fields, name, func(f field, name string) int { return strings.Compare(f.name, name) })
}

// raw returns a field as it came, nil if it is absent.
func (it *item) raw(name string) json.RawMessage {
	if i, ok := it.find(name); ok {
		return it.fields[i].value
	}
	return nil
}

// text returns a string field, "" if it is absent or no string.
func (it *item) text(name string) string {
	s, _ := unquote(it.raw(name))
	return s
}

// unix returns a time field, 0 if it is absent.
func (it *item) unix(name string) int64 { return parseUnix(it.raw(name)) }

// setRaw sets a field; nil removes it.
func (it *item) setRaw(name string, value json.RawMessage) {
	i, ok := it.find(name)
	switch {
	case ok && value == nil:
		it.fields = slices.Delete(it.fields, i, i+1)
	case ok:
		it.fields[i].value = value
	case value != nil:
		it.fields = slices.Insert(it.fields, i, field{name: name, value: value})
	}
}

// set sets a string field; "" removes it.
func (it *item) set(name, text string) {
	if text == "" {
		it.setRaw(name, nil)
		return
	}
	it.setRaw(name, appendQuoted(nil, strings.ToValidUTF8(text, "\uFFFD")))
}

// setTime sets a time field; the zero time removes it.
func (it *item) setTime(name string, t time.Time) {
	if t.IsZero() {
		it.setRaw(name, nil)
		return
	}
	it.setRaw(name, formatUnix(t.Unix()))
}

// append appends the item as JSON, and returns where the value of its secret
// stands, relative to b.
func (it *item) append(b []byte) (out []byte, secret span) {
	b = append(b, '{')
	for i, f := range it.fields {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, f.name)
		b = append(b, ':')
		if f.name == fieldSecret {
			secret = span{offset: len(b), length: len(f.value)}
		}
		b = append(b, f.value...)
	}
	return append(b, '}'), secret
}

// span is a stretch of bytes.
type span struct{ offset, length int }
