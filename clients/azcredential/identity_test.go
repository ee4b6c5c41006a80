package azcredential_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/managedidentity"

	"github.com/coatcheck-go/coatcheck/clients/azcredential"
	"github.com/coatcheck-go/coatcheck/clients/msal"
	"github.com/coatcheck-go/coatcheck/tokencache"
)

var _ azcredential.AppClient = (*msal.ManagedIdentity)(nil)

// SDK clients of the application with the identity of its machine ask the platform once
// for all of them, also those that name the tenant, as the Key Vault's do.
func TestManagedIdentity(t *testing.T) {
	var asked atomic.Int64
	platform := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]string{
			"access_token": "marker-identity", "token_type": "Bearer",
			"expires_on": strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10),
		})
	}))
	defer platform.Close()
	for name, value := range map[string]string{
		"IDENTITY_ENDPOINT": platform.URL, "IDENTITY_HEADER": "marker-header", "IDENTITY_SERVER_THUMBPRINT": "",
	} {
		t.Setenv(name, value)
	}
	service := newService(t)
	cache := newCache(t, tokencache.Namespace{Issuer: "https://login.test/v2.0", ClientID: "app"})
	identity, err := msal.NewManagedIdentity(cache, managedidentity.SystemAssigned(), &msal.ManagedIdentityOptions{Name: "production"})
	must(t, err)
	credential := azcredential.NewApp(identity)
	for range 3 {
		_, err := (&sdk{service.URL, newPipeline(credential, service.Client())}).do(t, t.Context(), "app")
		must(t, err)
	}
	tok, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{vaultScope}, TenantID: "its own"})
	must(t, err)
	if seen := service.seen("app"); len(seen) != 3 || !slices.Equal(slices.Compact(seen), []string{tok.Token}) || asked.Load() != 1 {
		t.Errorf("%d requests to the service, and %d to the platform", len(seen), asked.Load())
	}
}
