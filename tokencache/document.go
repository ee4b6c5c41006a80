package tokencache

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// document is a partition's contents in the unified schema of Microsoft's
// authentication libraries ("MSAL v3"):
//
//	{
//	  "AccessToken":  {key: item, …},
//	  "RefreshToken": {key: item, …},
//	  "IdToken":      {key: item, …},
//	  "Account":      {key: item, …},
//	  "AppMetadata":  {key: item, …},
//	  …whatever a later library adds
//	}
//
// Each library has its own dictionary keys, so they mean nothing here: items are
// told apart by their fields (identity), and leave with the keys of MSAL.NET
// (canonicalKey). The zero document is empty.
type document struct {
	sections [sectionCount][]*item // no two items of a section have one identity
	unknown  []field               // members of the top level, sorted by name
}

type section int

const (
	accessTokens section = iota
	refreshTokens
	idTokens
	accounts
	appMetadata

	sectionCount
)

// name is the section's name in the schema.
func (s section) name() string {
	return [sectionCount]string{"AccessToken", "RefreshToken", "IdToken", "Account", "AppMetadata"}[s]
}

// sectionNamed matches exactly: a name in another case is an unknown member.
func sectionNamed(name string) (section, bool) {
	for s := range sectionCount {
		if s.name() == name {
			return s, true
		}
	}
	return 0, false
}

// parseDocument reads a document. Blank input and null are the empty document.
// The document aliases b. The error is [ErrTooLarge], or says where the fault
// is without repeating any of the input.
func parseDocument(b []byte) (*document, error) {
	if len(b) > MaxTokensSize {
		return nil, ErrTooLarge
	}
	b = bytes.Trim(b, " \t\r\n")
	if len(b) == 0 {
		return &document{}, nil
	}
	if err := checkJSON(b); err != nil {
		return nil, err
	}
	if isNull(b) {
		return &document{}, nil
	}
	if !isObject(b) {
		return nil, fmt.Errorf("tokencache: the token document %w", errNotObject)
	}
	d := &document{}
	if err := d.read(b); err != nil {
		return nil, err
	}
	for s := range sectionCount {
		d.sections[s] = join(s, d.sections[s])
	}
	return d, nil
}

func (d *document) read(b []byte) error {
	var names []string
	for quoted, value := range members(b) {
		name, _ := unquote(quoted)
		names = append(names, name)
		s, known := sectionNamed(name)
		switch {
		case isNull(value):
		case !known:
			d.unknown = append(d.unknown, field{name: name, value: value})
		default:
			items, err := readSection(value)
			if err != nil {
				return fmt.Errorf("tokencache: the section %s %w", s.name(), err)
			}
			d.sections[s] = items
		}
	}
	if hasDuplicate(names) {
		return fmt.Errorf("tokencache: the token document %w", errDuplicateName)
	}
	slices.SortFunc(d.unknown, func(a, b field) int { return strings.Compare(a.name, b.name) })
	return nil
}

// readSection reads the items of one section, in their order. Keys hold account
// IDs: they stay out of the errors.
func readSection(value []byte) ([]*item, error) {
	if !isObject(value) {
		return nil, errNotObject
	}
	var keys []string
	var items []*item
	for quoted, v := range members(value) {
		key, _ := unquote(quoted)
		keys = append(keys, key)
		if isNull(v) {
			continue
		}
		it, err := parseItem(key, v)
		if err != nil {
			return nil, fmt.Errorf("has an item that %w", err)
		}
		items = append(items, it)
	}
	if hasDuplicate(keys) {
		return nil, errDuplicateName
	}
	return items, nil
}

// join keeps one item of each identity. Two libraries that share a cache may
// each keep a refresh token of the same user under their own key, and whoever
// spends the older one signs the user out.
func join(s section, items []*item) []*item {
	at := make(map[string]int, len(items))
	var kept []*item
	for _, it := range items {
		id := identity(s, it)
		i, twice := at[id]
		switch {
		case !twice:
			at[id] = len(kept)
			kept = append(kept, it)
		case supersedes(s, it, kept[i]):
			kept[i] = it
		}
	}
	return kept
}

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

// clone returns a document that can be changed by itself.
func (d *document) clone() *document {
	c := &document{unknown: d.unknown} // never changed
	for s, items := range d.sections {
		c.sections[s] = make([]*item, len(items))
		for i, it := range items {
			c.sections[s][i] = it.clone()
		}
	}
	return c
}
