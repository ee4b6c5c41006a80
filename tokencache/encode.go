package tokencache

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// placed is an item where it stands in the encoded document.
type placed struct {
	section section
	item    *item
	secret  span // the value of the secret, with its quotes
	size    int  // of the member
	entry   int  // its index entry, -1 for none; set by entries
}

// encode writes the document as MSAL.NET does: all five sections, canonical
// keys, nothing null or empty. The order depends on the contents alone, so that
// the same contents are the same bytes.
func (d *document) encode() ([]byte, []placed) {
	b := make([]byte, 0, 4096)
	var all []placed
	for s := range sectionCount {
		b = append(b, "{,,,,"[s])
		b = appendQuoted(b, s.name())
		b = append(b, ':')
		b, all = d.encodeSection(b, s, all)
	}
	for _, f := range d.unknown {
		b = append(b, ',')
		b = appendQuoted(b, f.name)
		b = append(b, ':')
		b = append(b, f.value...)
	}
	return append(b, '}'), all
}

func (d *document) encodeSection(b []byte, s section, all []placed) ([]byte, []placed) {
	b = append(b, '{')
	for i, k := range d.keyed(s) {
		start := len(b)
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQuoted(b, k.key)
		b = append(b, ':')
		p := placed{section: s, item: k.item}
		b, p.secret = k.item.append(b)
		p.size = len(b) - start
		all = append(all, p)
	}
	return append(b, '}'), all
}

type keyedItem struct {
	key, identity string
	item          *item
}

// keyed returns the items of a section in the order of their canonical keys.
// MSAL.NET's keys leave out what our identities have (the assertion hash, for
// one), and joining with dashes is not injective: where two items have one key,
// all but the first get a number.
func (d *document) keyed(s section) []keyedItem {
	items := make([]keyedItem, len(d.sections[s]))
	for i, it := range d.sections[s] {
		items[i] = keyedItem{key: canonicalKey(s, it), identity: identity(s, it), item: it}
	}
	slices.SortFunc(items, func(a, b keyedItem) int {
		return cmp.Or(strings.Compare(a.key, b.key), strings.Compare(a.identity, b.identity))
	})
	taken := make(map[string]bool, len(items))
	for i := range items {
		key := items[i].key
		for n := i; taken[items[i].key]; n++ {
			items[i].key = key + "-" + strconv.Itoa(n)
		}
		taken[items[i].key] = true
	}
	return items
}
