package tokencache

import (
	"bytes"
	"fmt"
	"slices"
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
	doubles  []*item               // refresh tokens that join has left out; see difference.newest
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
		var doubles []*item
		d.sections[s], doubles = join(s, d.sections[s])
		if s == refreshTokens {
			d.doubles = doubles
		}
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
// spends the older one signs the user out. The others are returned too.
func join(s section, items []*item) (kept, doubles []*item) {
	at := make(map[string]int, len(items))
	for _, it := range items {
		id := identity(s, it)
		i, twice := at[id]
		switch {
		case !twice:
			at[id] = len(kept)
			kept = append(kept, it)
		case supersedes(s, it, kept[i]):
			doubles = append(doubles, kept[i])
			kept[i] = it
		default:
			doubles = append(doubles, it)
		}
	}
	return kept, doubles
}
