package tokencache

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// The samples were written by MSAL Go 1.10 and MSAL Node 7.2 for one user each,
// at a local authorization server.
type sampleCache struct {
	file, environment, account string
	now                        time.Time
	appMetadata                int // before the first save
}

const (
	sampleClient = "aaaaaaaa-0000-0000-0000-000000000001"
	sampleTenant = "11111111-2222-3333-4444-555555555555"
)

func sampleCaches() []sampleCache {
	return []sampleCache{
		{
			file: "sample-msal-go-cache.json", environment: "login.microsoftonline.com",
			account: "00000000-0000-0000-0000-000000000000." + sampleTenant,
			now:     time.Unix(1795246092, 0), appMetadata: 1,
		},
		{
			file: "sample-msal-node-cache.json", environment: "localhost:18445",
			account: "00000000-0000-0000-0000-000000000002." + sampleTenant,
			now:     time.Unix(1795245802, 0), appMetadata: 0,
		},
	}
}

func (c *sampleCache) writer() *writer {
	return &writer{clientID: sampleClient, environment: c.environment, account: c.account}
}

// sameSections compares documents by their items' fields.
func sameSections(t testing.TB, what string, got, want map[string][]map[string]any) {
	t.Helper()
	text := func(m map[string]any) string { b, _ := json.Marshal(m); return string(b) }
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.SortSlices(func(a, b map[string]any) bool { return text(a) < text(b) })); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// Reading and writing changes nothing but dictionary keys.
func TestSamplesRewritten(t *testing.T) {
	t.Parallel()
	for _, c := range sampleCaches() {
		text := string(readFile(t, c.file))
		want := sectionsOf(t, text)
		sameSections(t, c.file, sectionsOf(t, encoded(mustParse(t, text))), want)
		stored, err := mustSnapshot(t, mustParse(t, text), c.now).document()
		if err != nil {
			t.Fatal(err)
		}
		sameSections(t, c.file+" stored", sectionsOf(t, encoded(stored)), want)
	}
}

func TestSamplesLookedUp(t *testing.T) {
	t.Parallel()
	for _, c := range sampleCaches() {
		d := mustParse(t, string(readFile(t, c.file)))
		s := mustSnapshot(t, d, c.now)
		q := query{
			Request:  Request{Scopes: []string{"api://tasks/tasks.read", "openid"}},
			clientID: sampleClient, account: c.account, margin: 5 * time.Minute,
		}
		tok, fresh, err := s.find(&q, c.now)
		if err != nil || fresh != isFresh || string(tok.AccessToken) != secretsOf(d, accessTokens) || tok.Tenant != sampleTenant {
			t.Errorf("%s: found freshness %d, tenant %q, %v", c.file, fresh, tok.Tenant, err)
		}
		if rt, ok, err := s.refreshToken(sampleClient, c.account); !ok || err != nil || string(rt) != secretsOf(d, refreshTokens) {
			t.Errorf("%s: no refresh token: %v", c.file, err)
		}
		kinds := []string{}
		for _, e := range tokensOf(s).Entries() {
			kinds = append(kinds, e.Kind+" "+e.Audience)
		}
		if want := []string{"access api://tasks", "refresh ", "id " + sampleClient}; !slices.Equal(kinds, want) {
			t.Errorf("%s: entries %q", c.file, kinds)
		}
		if list := tokensOf(s).Accounts(); len(list) != 1 || list[0].ID != c.account || list[0].Username == "" {
			t.Errorf("%s: %d accounts", c.file, len(list))
		}
	}
}

func TestSamplesRefreshed(t *testing.T) {
	t.Parallel()
	for _, c := range sampleCaches() {
		text := string(readFile(t, c.file))
		d, want := mustParse(t, text), sectionsOf(t, text)
		later := c.now.Add(time.Hour)
		used := Secret(secretsOf(d, refreshTokens))
		scopes := []string{"api://tasks/Tasks.Read", "openid", "profile", "offline_access"}
		mustApply(t, d, refreshChange("A1", used, "R1", scopes...), c.writer(), later)

		now := unixText(later)
		set := func(section string, values map[string]any) {
			for k, v := range values {
				if v == nil {
					delete(want[section][0], k)
					continue
				}
				want[section][0][k] = v
			}
		}
		expires := unixText(testNow.Add(time.Hour)) // of refreshChange
		set("AccessToken", map[string]any{
			"secret": "A1", "cached_at": now, "expires_on": expires, "extended_expires_on": expires, "last_modification_time": now,
			"target": "api://tasks/Tasks.Read openid profile offline_access", "token_type": nil,
		})
		set("RefreshToken", map[string]any{"secret": "R1", "last_modification_time": now})
		if len(want["AppMetadata"]) != c.appMetadata {
			t.Errorf("%s: the sample has %d AppMetadata items", c.file, len(want["AppMetadata"]))
		}
		if c.appMetadata == 0 {
			want["AppMetadata"] = []map[string]any{{"client_id": sampleClient, "environment": c.environment, "last_modification_time": now}}
		}
		sameSections(t, c.file, sectionsOf(t, encoded(d)), want)
	}
}

func TestSamplesSignedInAgain(t *testing.T) {
	t.Parallel()
	for _, c := range sampleCaches() {
		d := mustParse(t, string(readFile(t, c.file)))
		account := d.sections[accounts][0]
		sign := signInChange("A1", "R1")
		sign.grant.Account = Account{ID: c.account, LocalID: "local", Tenant: sampleTenant, Username: "renamed", Name: "Renamed"}
		mustApply(t, d, sign, c.writer(), c.now)
		if secretsOf(d, refreshTokens) != "R1" || secretsOf(d, idTokens) != "I0" || len(d.sections[accounts]) != 1 {
			t.Errorf("%s: got %s", c.file, encoded(d))
		}
		it := d.sections[accounts][0]
		for _, name := range []string{"tenantProfiles", "client_info", "authority_type", "environment"} {
			if string(it.raw(name)) != string(account.raw(name)) {
				t.Errorf("%s: %s is %s", c.file, name, it.raw(name))
			}
		}
		if it.text(fieldUsername) != "renamed" || it.text(fieldName) != "Renamed" {
			t.Errorf("%s: the account was not updated: %s", c.file, it.text(fieldUsername))
		}
	}
}

// MSAL Go and MSAL Node, sharing a cache, leave two refresh tokens and two ID
// tokens of one user. A save leaves one.
func TestSamplesShared(t *testing.T) {
	t.Parallel()
	text := string(readFile(t, "sample-msal-node-cache.json"))
	byNode := mustParse(t, text)
	var shared map[string]map[string]map[string]any
	if err := json.Unmarshal([]byte(text), &shared); err != nil {
		t.Fatal(err)
	}
	for _, section := range []string{"RefreshToken", "IdToken"} {
		for key, it := range shared[section] {
			other := map[string]any{}
			for k, v := range it {
				other[k] = v
			}
			other["secret"] = "of MSAL Go"
			for key[len(key)-1] == '-' {
				key = key[:len(key)-1]
			}
			shared[section][key] = other
			break
		}
	}
	b, err := json.Marshal(shared)
	if err != nil {
		t.Fatal(err)
	}
	d := mustParse(t, string(b))
	if len(d.sections[refreshTokens]) != 1 || len(d.sections[idTokens]) != 1 {
		t.Fatalf("two of a kind are left: %s", encoded(d))
	}
	if secretsOf(d, refreshTokens) != secretsOf(byNode, refreshTokens) {
		t.Error("the refresh token that was written last is lost")
	}
}
