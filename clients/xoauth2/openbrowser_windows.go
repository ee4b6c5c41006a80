package xoauth2

import "golang.org/x/sys/windows"

// openBrowser opens a URL in the system's browser.
func openBrowser(url string) error {
	target, err := windows.UTF16PtrFromString(url)
	if err != nil {
		return err
	}
	verb, err := windows.UTF16PtrFromString("open")
	if err != nil {
		return err
	}
	return windows.ShellExecute(0, verb, target, nil, nil, windows.SW_SHOWNORMAL)
}
