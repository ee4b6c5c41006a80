package legacy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a document, as it does in the unified schema.
const maxDepth = 32

var (
	errNotObject = errors.New("is not an object")
	errNotList   = errors.New("is not a list")
	errNotString = errors.New("is not a string")
	errDuplicate = errors.New("has two members of one name")
)

// checkJSON tells whether b is one JSON value, not nested too deep. Its error goes
// on after a subject, and says nothing of what stands there.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("is not UTF-8")
	}
	if !json.Valid(b) {
		var value json.RawMessage
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(b, &value), &syntax) {
			return fmt.Errorf("is not JSON at byte %d", syntax.Offset)
		}
		return errors.New("is not JSON")
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("is nested too deep at byte %d", i)
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// object returns the members of a JSON value that checkJSON has seen. Those that are
// null are left out. encoding/json alone would take the last of two members with one
// name, and names in another case.
func object(value []byte) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(value))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errNotObject
	}
	members, seen := map[string]json.RawMessage{}, map[string]bool{}
	for d.More() {
		name, value, err := member(d)
		switch {
		case err != nil:
			return nil, errNotObject
		case seen[name]:
			return nil, errDuplicate
		}
		if seen[name] = true; !isNull(value) {
			members[name] = value
		}
	}
	return members, nil
}

func member(d *json.Decoder) (name string, value json.RawMessage, err error) {
	t, err := d.Token()
	if err != nil {
		return "", nil, err
	}
	name, _ = t.(string)
	return name, value, d.Decode(&value)
}

// list returns the elements of a JSON value that checkJSON has seen.
func list(value []byte) ([]json.RawMessage, error) {
	var elements []json.RawMessage
	if len(value) == 0 || value[0] != '[' || json.Unmarshal(value, &elements) != nil {
		return nil, errNotList
	}
	return elements, nil
}

// text returns the text of a JSON string, "" for nothing.
func text(value []byte) (string, error) {
	if value == nil {
		return "", nil
	}
	var s string
	if value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", errNotString
	}
	return s, nil
}

func isNull(value []byte) bool { return string(value) == "null" }

// encode writes a value as JSON with no more escapes than needed. The value is
// made of strings, and of JSON that is valid already: that cannot fail.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
