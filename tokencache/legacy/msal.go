package legacy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// listName is the section's name in the MSAL v2 format, which has no list for what
// is known of clients.
func (s section) listName() string {
	return [sectionCount]string{"access_tokens", "refresh_tokens", "id_tokens", "accounts"}[s]
}

func listNamed(name string) (section, bool) {
	for s := range appMetadata {
		if s.listName() == name {
			return s, true
		}
	}
	return 0, false
}

// unifyMSAL returns the document in the unified schema.
func unifyMSAL(b []byte) ([]byte, error) {
	if err := checkJSON(b); err != nil {
		return nil, fmt.Errorf("the document %w", err)
	}
	lists, err := list(b)
	if err != nil {
		return nil, fmt.Errorf("the document %w", err)
	}
	var sections [sectionCount][]json.RawMessage
	seen := map[string]bool{}
	for i, element := range lists {
		name, values, err := readList(element)
		if err != nil {
			return nil, fmt.Errorf("list %d %w", i, err)
		}
		if seen[name] {
			return nil, fmt.Errorf("list %d has the name of another", i)
		}
		seen[name] = true
		s, known := listNamed(name)
		if !known {
			continue
		}
		if sections[s], err = readItems(values); err != nil {
			return nil, fmt.Errorf("the list %s %w", name, err)
		}
	}
	return assemble(sections), nil
}

// readList returns the name and the elements of one list.
func readList(element []byte) (name string, values []json.RawMessage, err error) {
	members, err := object(element)
	if err != nil {
		return "", nil, err
	}
	if name, err = text(members["Key"]); err != nil {
		return "", nil, fmt.Errorf("has a name that %w", err)
	}
	if members["Key"] == nil {
		return "", nil, fmt.Errorf("has no name")
	}
	if members["Value"] == nil {
		return name, nil, nil
	}
	if values, err = list(members["Value"]); err != nil {
		return "", nil, fmt.Errorf("has a value that %w", err)
	}
	return name, values, nil
}

// readItems returns the items whose texts are the elements.
func readItems(values []json.RawMessage) ([]json.RawMessage, error) {
	var items []json.RawMessage
	for i, value := range values {
		if isNull(value) {
			continue
		}
		s, err := text(value)
		if err != nil {
			return nil, fmt.Errorf("has an item %d that %w", i, err)
		}
		it := bytes.TrimSpace([]byte(s))
		// One value, and no more: what follows goes into a larger document.
		if err := checkJSON(it); err != nil {
			return nil, fmt.Errorf("has an item %d that %w", i, err)
		}
		items = append(items, it)
	}
	return items, nil
}

// assemble makes a document of the unified schema of items as they are.
func assemble(sections [sectionCount][]json.RawMessage) []byte {
	var b bytes.Buffer
	for s := range sectionCount {
		b.WriteByte("{,,,,"[s])
		fmt.Fprintf(&b, "%q:", s.name())
		for i, it := range sections[s] {
			b.WriteByte("{,"[min(i, 1)])
			fmt.Fprintf(&b, `"%d":`, i)
			b.Write(it)
		}
		if len(sections[s]) == 0 {
			b.WriteByte('{')
		}
		b.WriteByte('}')
	}
	b.WriteByte('}')
	return b.Bytes()
}

// msalList is one list of the format.
type msalList struct {
	Key   string
	Value []string
}

// writeMSAL returns the document in the MSAL v2 format.
func (d *document) writeMSAL() []byte {
	lists := make([]msalList, 0, appMetadata)
	for s := range appMetadata {
		l := msalList{Key: s.listName(), Value: []string{}}
		for _, it := range d.sections[s] {
			if it.plain() {
				l.Value = append(l.Value, string(encode(it)))
			}
		}
		lists = append(lists, l)
	}
	return encode(lists)
}

// plain tells whether readers that know scopes and bearer tokens only take the
// item for what it is.
func (it item) plain() bool {
	kind := it.text(fieldTokenType)
	return !it.qualified() && (kind == "" || strings.EqualFold(kind, "Bearer"))
}
