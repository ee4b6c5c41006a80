package azcredential_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Who uses the Azure SDK need not link MSAL for it, nor who uses MSAL the SDK.
func TestLinks(t *testing.T) {
	t.Parallel()
	const clients = "github.com/coatcheck-go/coatcheck/clients/"
	for pkg, unwanted := range map[string][]string{
		clients + "azcredential": {"github.com/AzureAD/", "github.com/coreos/go-oidc", clients + "msal", clients + "xoauth2"},
		clients + "msal":         {"github.com/Azure/", clients + "azcredential"},
		clients + "xoauth2":      {"github.com/Azure/", "github.com/AzureAD/"},
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
		must(t, err)
		if !strings.Contains(string(out), pkg) {
			t.Fatalf("go list does not list %s itself", pkg)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			for _, prefix := range unwanted {
				if strings.HasPrefix(dep, prefix) {
					t.Errorf("%s links %s", pkg, dep)
				}
			}
		}
	}
}
