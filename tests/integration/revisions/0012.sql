-- Rights that the previous version gave and took, while its is_admin and the new role are in use side by side.
update users set is_admin = true where username = 'old';
update users set is_admin = false where username = 'old';
update users set role = 'auditor' where username = 'old';
