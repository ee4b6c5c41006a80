package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"unicode/utf8"
)

// The unified schema is read with the few functions of this file instead of
// into Go types: encoding/json takes the last of two members with one name
// without a word, quotes its input in errors, and would rewrite the values that
// must be kept as they came.

// maxDepth bounds the nesting of a document. The schema needs four levels.
const maxDepth = 32

// checkJSON tells whether b is one JSON value that the functions below can walk.
// Its error says where the fault is and nothing about what stands there.
func checkJSON(b []byte) error {
	if !utf8.Valid(b) {
		return errors.New("tokencache: the tokens are not UTF-8")
	}
	if !json.Valid(b) {
		var value json.RawMessage
		var syntax *json.SyntaxError
		if errors.As(json.Unmarshal(b, &value), &syntax) {
			return fmt.Errorf("tokencache: the tokens are not JSON at byte %d", syntax.Offset)
		}
		return errors.New("tokencache: the tokens are not JSON")
	}
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("tokencache: the tokens are nested too deep at byte %d", i)
			}
		case '}', ']':
			depth--
		}
	}
	return nil
}

// isObject tells whether the valid JSON value is an object.
func isObject(value []byte) bool { return len(value) > 0 && value[0] == '{' }

// isNull tells whether the valid JSON value is null.
func isNull(value []byte) bool { return len(value) > 0 && value[0] == 'n' }

// members yields the names, still quoted, and the values of a valid JSON object.
// Both alias it.
func members(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := skipSpace(object, 1)
		for object[i] != '}' {
			end := stringEnd(object, i)
			name := object[i:end]
			i = skipSpace(object, skipSpace(object, end)+1) // over the colon
			end = valueEnd(object, i)
			if !yield(name, object[i:end]) {
				return
			}
			if i = skipSpace(object, end); object[i] == ',' {
				i = skipSpace(object, i+1)
			}
		}
	}
}

func skipSpace(b []byte, i int) int {
	for b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' {
		i++
	}
	return i
}

// stringEnd returns the index after the string that starts at i.
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd returns the index after the value that starts at i, within an object.
func valueEnd(b []byte, i int) int {
	depth := 0
	for {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i // of the object around it
			}
			depth--
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
			i++
			continue
		}
		i++
		if depth == 0 && (b[i-1] == '"' || b[i-1] == '}' || b[i-1] == ']') {
			return i
		}
	}
}

// unquote returns the text of a JSON string, and false if it is none. The value
// need not be valid JSON.
func unquote(value []byte) (string, bool) {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return "", false
	}
	inner := value[1 : len(value)-1]
	if bytes.IndexByte(inner, '\\') >= 0 {
		var s string
		err := json.Unmarshal(value, &s)
		return s, err == nil
	}
	return string(inner), bytes.IndexByte(inner, '"') < 0
}

// appendQuoted appends s as a JSON string with as few escapes as JSON allows, so
// that one text has one form.
func appendQuoted(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

// hasDuplicate tells whether a text is there twice. It sorts the texts.
func hasDuplicate(texts []string) bool {
	slices.Sort(texts)
	for i := 1; i < len(texts); i++ {
		if texts[i] == texts[i-1] {
			return true
		}
	}
	return false
}
