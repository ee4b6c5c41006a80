package tokencache

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

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
