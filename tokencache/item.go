package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
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

type field struct {
	name  string
	value json.RawMessage
}

// Fields that the cache reads or writes. Their meanings are MSAL's.
const (
	fieldHomeAccount  = "home_account_id"
	fieldEnvironment  = "environment"
	fieldClient       = "client_id"
	fieldClientInfo   = "client_info"
	fieldCredential   = "credential_type"
	fieldSecret       = "secret"
	fieldRealm        = "realm"
	fieldTarget       = "target"
	fieldTokenType    = "token_type"
	fieldFamily       = "family_id"
	fieldAssertion    = "user_assertion_hash"
	fieldExt          = "ext"
	fieldCachedAt     = "cached_at"
	fieldExpires      = "expires_on"
	fieldExtExpires   = "extended_expires_on"
	fieldRefreshOn    = "refresh_on"
	fieldModified     = "last_modification_time"
	fieldLocalAccount = "local_account_id"
	fieldUsername     = "username"
	fieldName         = "name"
	fieldAuthority    = "authority_type"
)

// Names that other libraries have for some of them.
const (
	nodeAssertion  = "userAssertionHash"
	nodeClaims     = "requestedClaims"
	nodeClaimsHash = "requestedClaimsHash"
	goExtKey       = "ext_cache_key"
	oldExtExpires  = "ext_expires_on"
)

type fieldKind uint8

const (
	unknownField  fieldKind = iota // kept as it is
	textField                      // a string, if it is one
	identityField                  // a string, or the document is refused
	timeField                      // seconds since 1970
)

func kindOf(name string) fieldKind {
	switch name {
	case fieldSecret, fieldHomeAccount, fieldEnvironment, fieldClient, fieldRealm, fieldTarget,
		fieldTokenType, fieldFamily, fieldAssertion, nodeAssertion:
		return identityField
	case fieldCachedAt, fieldExpires, fieldExtExpires, oldExtExpires, fieldRefreshOn, fieldModified:
		return timeField
	case fieldCredential, fieldClientInfo, fieldLocalAccount, fieldUsername, fieldName, fieldAuthority,
		"given_name", "family_name", "account_source", "kid", nodeClaims, nodeClaimsHash, goExtKey:
		return textField
	}
	return unknownField
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

// normalize gives a known field its one form, nil for none: texts are not empty
// and have no needless escapes, times are decimal strings. MSAL.NET refuses a
// document with other times, and fails on null.
func normalize(name string, value []byte) (json.RawMessage, error) {
	if isNull(value) {
		return nil, nil
	}
	kind := kindOf(name)
	if kind == unknownField {
		return value, nil
	}
	if kind == timeField {
		return formatUnix(parseUnix(value)), nil
	}
	text, ok := unquote(value)
	switch {
	case !ok && kind == identityField:
		return nil, fmt.Errorf("has a %s that is not a string", name) // a name of ours, not of the input
	case !ok:
		return value, nil
	case text == "":
		return nil, nil
	case bytes.IndexByte(value, '\\') >= 0:
		return appendQuoted(nil, text), nil
	}
	return value, nil
}

// maxUnix is the end of the year 9999, beyond which times do not format.
const maxUnix = 253402300799

// parseUnix reads seconds since 1970, as a string or a number; 0 if it is
// neither.
func parseUnix(value []byte) int64 {
	text, ok := unquote(value)
	if !ok {
		text = string(value)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if ferr != nil || f != f || f > maxUnix || f < 0 {
			return 0
		}
		n = int64(f)
	}
	if n < 0 {
		return 0
	}
	return min(n, maxUnix)
}

func formatUnix(n int64) json.RawMessage {
	if n <= 0 {
		return nil
	}
	return json.RawMessage(`"` + strconv.FormatInt(min(n, maxUnix), 10) + `"`)
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

// clone returns a copy that can be changed by itself.
func (it *item) clone() *item {
	return &item{key: it.key, fields: slices.Clone(it.fields)}
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
