package legacy

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	delimiter = ":::"

	subjectUser   = "0"
	subjectClient = "1"
	subjectBoth   = "2" // a user of a confidential client

	// fieldSubject keeps a client's subject type.
	fieldSubject = "adal_subject_type"
)

// adalEntry is what is taken over of one entry.
type adalEntry struct {
	authority *url.URL
	clientID  string
	subject   string
	expires   int64 // when the access token ends, seconds since 1970; 0: not known

	uniqueID, displayableID, givenName, familyName, tenant string
	clientInfo, refreshToken, assertion                    string
}

// unifyADAL returns the document in the unified schema.
func unifyADAL(b []byte) ([]byte, error) {
	pairs, err := readPairs(b)
	if err != nil {
		return nil, err
	}
	var entries []*adalEntry
	for i, p := range pairs {
		e, err := readEntry(p)
		if err != nil {
			return nil, fmt.Errorf("entry %d %w", i, err)
		}
		entries = append(entries, e)
	}
	// The newest first; of those that are equally new the last.
	slices.Reverse(entries)
	slices.SortStableFunc(entries, func(a, b *adalEntry) int { return cmp.Compare(b.expires, a.expires) })
	d := &collector{has: map[string]item{}}
	for _, e := range entries {
		if home := e.home(); home != "" && e.subject != subjectClient {
			d.addEntry(e, home)
		}
	}
	return d.json(), nil
}

// collector is a document to which entries are added, the newest first.
type collector struct {
	document
	has map[string]item
}

// add adds an item unless there is one of that name, which it then completes if fill is
// set.
func (d *collector) add(s section, name string, it item, fill bool) {
	name = s.name() + " " + name
	own := d.has[name]
	if own == nil {
		d.has[name] = it
		d.sections[s] = append(d.sections[s], it)
		return
	}
	for field, value := range it {
		if fill && own[field] == nil {
			own[field] = value
		}
	}
}

// addEntry adds what an entry says.
func (d *collector) addEntry(e *adalEntry, home string) {
	it := item{}
	it.set(fieldHome, home)
	it.set(fieldEnv, e.host())
	it.set(fieldClientInfo, e.clientInfo)
	if e.refreshToken != "" {
		d.addRefreshToken(e, maps.Clone(it))
	}
	realm := e.realm()
	if realm == "" && !e.federated() {
		_, realm, _ = strings.Cut(home, ".")
	}
	it.set(fieldRealm, realm)
	it.set(fieldLocal, e.uniqueID)
	it.set(fieldUsername, e.displayableID)
	it.set(fieldGivenName, e.givenName)
	it.set(fieldFamilyName, e.familyName)
	it.set(fieldAuthority, "MSSTS")
	if e.federated() {
		it.set(fieldAuthority, "ADFS")
	}
	d.add(accounts, fmt.Sprintf("%q %q %q", strings.ToLower(home), e.host(), realm), it, true)
}

// addRefreshToken adds the refresh token of an entry to what names its user.
func (d *collector) addRefreshToken(e *adalEntry, it item) {
	it.set(fieldCredential, "RefreshToken")
	it.set(fieldClient, e.clientID)
	it.set(fieldSecret, e.refreshToken)
	it.set(fieldAssertion, e.assertion)
	d.add(refreshTokens, it.user(), it, false)
	client := item{}
	client.set(fieldClient, e.clientID)
	client.set(fieldEnv, e.host())
	client.set(fieldSubject, e.subject)
	d.add(appMetadata, fmt.Sprintf("%q %q", e.clientID, e.host()), client, false)
}

// home is the account ID, "" if the entry names no user.
func (e *adalEntry) home() string {
	switch id := homeOf(e.clientInfo); {
	case id != "":
		return id
	case e.uniqueID != "" && e.realm() != "":
		return e.uniqueID + "." + e.realm()
	}
	return e.uniqueID
}

// realm is the directory, "" if there is none or it is not known.
func (e *adalEntry) realm() string {
	if e.tenant != "" || e.federated() {
		return e.tenant
	}
	switch first := e.firstSegment(); strings.ToLower(first) {
	case "common", "organizations", "consumers":
		return ""
	default:
		return first
	}
}

// federated tells whether the authority is AD FS, which has no directories.
func (e *adalEntry) federated() bool { return strings.EqualFold(e.firstSegment(), "adfs") }

func (e *adalEntry) host() string { return strings.ToLower(e.authority.Host) }

func (e *adalEntry) firstSegment() string {
	first, _, _ := strings.Cut(strings.TrimPrefix(e.authority.EscapedPath(), "/"), "/")
	first, _ = url.PathUnescape(first) // it was escaped for a URL that did parse
	return first
}

// readEntry reads an entry. Its error goes on after a subject.
func readEntry(p pair) (*adalEntry, error) {
	parts := strings.Split(p.key, delimiter)
	if len(parts) != 4 {
		return nil, errors.New("has a key that is not of four parts")
	}
	e := &adalEntry{clientID: parts[2], subject: parts[3]}
	if e.subject != subjectUser && e.subject != subjectClient && e.subject != subjectBoth {
		return nil, errors.New("has a subject type that is not known")
	}
	var err error
	if e.authority, err = url.Parse(parts[0]); err != nil || e.authority.Host == "" {
		return nil, errors.New("has an authority that is no URL")
	}
	value := []byte(p.value)
	if err := checkJSON(value); err != nil {
		return nil, fmt.Errorf("has a value that %w", err)
	}
	return e, e.read(value)
}

// read reads the value.
func (e *adalEntry) read(value []byte) error {
	wrapper, err := object(value)
	if err != nil {
		return fmt.Errorf("has a value that %w", err)
	}
	var result, user map[string]json.RawMessage
	if wrapper["Result"] != nil {
		if result, err = object(wrapper["Result"]); err != nil {
			return fmt.Errorf("has a Result that %w", err)
		}
	}
	if result["UserInfo"] != nil {
		if user, err = object(result["UserInfo"]); err != nil {
			return fmt.Errorf("has a UserInfo that %w", err)
		}
	}
	for _, m := range []struct {
		of   map[string]json.RawMessage
		name string
		to   *string
	}{
		{user, "UniqueId", &e.uniqueID},
		{user, "DisplayableId", &e.displayableID},
		{user, "GivenName", &e.givenName},
		{user, "FamilyName", &e.familyName},
		{result, "TenantId", &e.tenant},
		{wrapper, "RawClientInfo", &e.clientInfo},
		{wrapper, "RefreshToken", &e.refreshToken},
		{wrapper, "UserAssertionHash", &e.assertion},
	} {
		if *m.to, err = text(m.of[m.name]); err != nil {
			return fmt.Errorf("has a %s that %w", m.name, err) // a name of ours, not of the input
		}
	}
	if homeOf(e.clientInfo) == "" {
		e.clientInfo = "" // it says nothing
	}
	e.assertion = unifiedHash(e.assertion)
	e.expires = unixOf(result["ExpiresOn"])
	return nil
}

// unifiedHash turns a hash in the base64 of .NET into that of the unified schema,
// which is unpadded base64url.
func unifiedHash(hash string) string {
	if sum, err := base64.StdEncoding.DecodeString(hash); err == nil && len(sum) == 32 {
		return base64.RawURLEncoding.EncodeToString(sum)
	}
	return hash
}

// unixOf reads a date as the DataContract serializer of .NET writes one,
// {"DateTime": "/Date(milliseconds)/", "OffsetMinutes": n}, which is in UTC, or as others
// do (RFC 3339). The answer is in seconds since 1970, 0 for what is no date.
func unixOf(value []byte) int64 {
	if len(value) > 0 && value[0] == '{' {
		members, err := object(value)
		if err != nil {
			return 0
		}
		value = members["DateTime"]
	}
	s, err := text(value)
	if err != nil {
		return 0
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return max(t.Unix(), 0)
	}
	s, ok := strings.CutPrefix(s, "/Date(")
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if !ok || end < 0 {
		return 0
	}
	n, _ := strconv.ParseInt(s[:end], 10, 64)
	return n / 1000
}

// clientInfo is Microsoft Entra ID's client_info.
type clientInfo struct {
	UID  string `json:"uid"`
	UTID string `json:"utid"`
}

// homeOf is the account ID that a client_info names, "" if it names none.
func homeOf(info string) string {
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(info, "="))
	var ids clientInfo
	if err != nil || json.Unmarshal(b, &ids) != nil || ids.UID == "" || ids.UTID == "" {
		return ""
	}
	return ids.UID + "." + ids.UTID
}

// infoOf is a client_info that names the account, "" for an ID of another form.
func infoOf(home string) string {
	uid, utid, _ := strings.Cut(home, ".")
	if uid == "" || utid == "" {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(encode(clientInfo{UID: uid, UTID: utid}))
}
