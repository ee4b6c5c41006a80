package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/coatcheck-go/coatcheck/clients/xoauth2"
	"github.com/coatcheck-go/coatcheck/internal/idp"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

const deskID = "aaaaaaaa-0000-0000-0000-000000000002" // a public client

// newDesk is the world of programs on a person's machine.
func newDesk(t *testing.T) *world {
	t.Helper()
	s, err := idp.Listen("127.0.0.1:0", &idp.Options{
		TLS: true, DeviceInterval: time.Second, Clients: []idp.Client{{ID: deskID, Public: true}},
	})
	check(t, err)
	t.Cleanup(func() { check(t, s.Close(context.Background())) })
	return &world{idp: s}
}

// desk is a program on coatcheck.
func (w *world) desk(t *testing.T) *app {
	t.Helper()
	cache := newCacheOf(t, w.idp.TenantURL(), deskID)
	c, err := xoauth2.New(t.Context(), cache, &xoauth2.Options{Scopes: []string{"profile", readScope}, HTTPClient: w.client(t)})
	check(t, err)
	return &app{c, cache}
}

// device signs a user in.
func (a *app) device(t *testing.T, w *world, user string) tokencache.Ticket {
	t.Helper()
	d, err := a.BeginDevice(t.Context(), nil)
	check(t, err)
	check(t, w.idp.ApproveDevice(d.UserCode, user))
	ticket, err := a.CompleteDevice(t.Context(), d)
	check(t, err)
	return ticket
}

// credential is a program on azidentity, which has the record of an earlier process, or
// the zero one. Whoever is asked to sign in is the user.
func (w *world) credential(t *testing.T, r azidentity.AuthenticationRecord, user string) *azidentity.DeviceCodeCredential {
	t.Helper()
	c, err := azidentity.NewDeviceCodeCredential(&azidentity.DeviceCodeCredentialOptions{
		ClientOptions: azcore.ClientOptions{
			Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: w.idp.URL()},
			Transport: w.client(t),
		},
		AuthenticationRecord:           r,
		ClientID:                       deskID,
		TenantID:                       idp.DefaultTenant,
		DisableInstanceDiscovery:       true,
		DisableAutomaticAuthentication: true,
		UserPrompt: func(_ context.Context, m azidentity.DeviceCodeMessage) error {
			return w.idp.ApproveDevice(m.UserCode, user)
		},
	})
	check(t, err)
	return c
}

func (w *world) authenticate(t *testing.T, c *azidentity.DeviceCodeCredential) azidentity.AuthenticationRecord {
	t.Helper()
	r, err := c.Authenticate(t.Context(), &policy.TokenRequestOptions{Scopes: []string{readScope}})
	check(t, err)
	return r
}

// asAzure is a record after a program on azidentity has saved and read it.
func asAzure(t *testing.T, r xoauth2.AuthenticationRecord) azidentity.AuthenticationRecord {
	t.Helper()
	var az azidentity.AuthenticationRecord
	check(t, json.Unmarshal(r.Encode(), &az))
	text, err := json.Marshal(az)
	check(t, err)
	if az != azidentity.AuthenticationRecord(r) || !bytes.Equal(text, r.Encode()) {
		t.Error("azidentity reads another record, or writes it in another way")
	}
	return az
}

// asOurs is the other way.
func asOurs(t *testing.T, az azidentity.AuthenticationRecord) xoauth2.AuthenticationRecord {
	t.Helper()
	text, err := json.Marshal(az)
	check(t, err)
	r, err := xoauth2.ParseAuthenticationRecord(text)
	check(t, err)
	if r != xoauth2.AuthenticationRecord(az) || !bytes.Equal(text, r.Encode()) {
		t.Error("the record of azidentity is read as another, or written in another way")
	}
	return r
}

// Both write the same bytes, whatever is in them.
func TestRecordBytes(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"record-go.json", "record-python.json"} {
		text, err := os.ReadFile("../../clients/xoauth2/testdata/" + file)
		check(t, err)
		var az azidentity.AuthenticationRecord
		check(t, json.Unmarshal(text, &az))
		r, err := xoauth2.ParseAuthenticationRecord(text)
		check(t, err)
		if az != azidentity.AuthenticationRecord(r) {
			t.Errorf("%s: azidentity reads another record", file)
		}
		if again, err := json.Marshal(az); err != nil || bytes.Equal(again, text) != (file == "record-go.json") {
			t.Errorf("%s: azidentity writes another one, %v", file, err)
		}
	}
	for _, name := range []string{"", "anna@contoso.test", "zoë", `"\/`, "<script>&", "𝄞𝄞", "a b", "日本語", "'`{}[]:,"} {
		r := xoauth2.AuthenticationRecord{
			Authority: "https://login.microsoftonline.com", ClientID: deskID, HomeAccountID: name + ".x", TenantID: name, Username: name, Version: "1.0",
		}
		if asOurs(t, asAzure(t, r)) != r {
			t.Errorf("%q comes back as another record", name)
		}
	}
}

// What azidentity writes down of a sign-in is good here, for the account that it is of.
func TestRecordFromAzidentity(t *testing.T) {
	t.Parallel()
	w := newDesk(t)
	anna := asOurs(t, w.authenticate(t, w.credential(t, azidentity.AuthenticationRecord{}, "anna")))
	bob := asOurs(t, w.authenticate(t, w.credential(t, azidentity.AuthenticationRecord{}, "bob")))
	a := w.desk(t)
	if _, err := a.SignInSilently(t.Context(), anna); !errors.Is(err, tokencache.ErrNoTokens) {
		t.Errorf("an account that is not in the cache: %v", err)
	}
	annas, bobs := a.device(t, w, "anna"), a.device(t, w, "bob")
	for _, u := range []struct {
		record xoauth2.AuthenticationRecord
		ticket tokencache.Ticket
	}{{anna, annas}, {bob, bobs}} {
		w.refreshes(t, 0, func() {
			if got, err := a.SignInSilently(t.Context(), u.record); err != nil || got != u.ticket {
				t.Errorf("another ticket, or %v", err)
			}
		})
		check(t, a.cache.Partition(u.ticket.Key()).Expire(t.Context()))
		w.refreshes(t, 1, func() {
			if got, err := a.SignInSilently(t.Context(), u.record); err != nil || got != u.ticket {
				t.Errorf("refreshed: another ticket, or %v", err)
			}
		})
		if own, err := a.AuthenticationRecord(t.Context(), u.ticket); err != nil || own != u.record {
			t.Errorf("azidentity's record is another than ours, %v", err)
		}
	}
	check(t, a.SignOut(tokencache.NewContext(t.Context(), a.cache.Partition(annas.Key()))))
	if _, err := a.SignInSilently(t.Context(), anna); !errors.Is(err, tokencache.ErrRemoved) {
		t.Errorf("signed out: %v", err)
	}
}

// What is written down here is good for azidentity. Its tokens are in a cache of its own,
// so its user signs in once there too, and is then found as the same one.
func TestRecordToAzidentity(t *testing.T) {
	t.Parallel()
	w := newDesk(t)
	a := w.desk(t)
	ours, err := a.AuthenticationRecord(t.Context(), a.device(t, w, "anna"))
	check(t, err)
	request := policy.TokenRequestOptions{Scopes: []string{readScope}}

	c := w.credential(t, asAzure(t, ours), "anna")
	_, err = c.GetToken(t.Context(), request)
	if required := (*azidentity.AuthenticationRequiredError)(nil); !errors.As(err, &required) {
		t.Fatalf("before the sign-in: %v", err)
	}
	if got := w.authenticate(t, c); asOurs(t, got) != ours {
		t.Error("azidentity has another account than the record")
	}
	w.refreshes(t, 0, func() {
		if tok, err := c.GetToken(t.Context(), request); err != nil || tok.Token == "" {
			t.Errorf("no token silently: %v", err)
		}
	})
	if got := w.authenticate(t, w.credential(t, asAzure(t, ours), "bob")); asOurs(t, got) == ours {
		t.Error("the record does not tell users apart")
	}
}
