-- Whom a serial number names: the devices in force. What a device says is of any length; an index entry is not.
CREATE INDEX enrollment_serial ON enrollment (serial_number, tenant)
 WHERE standing = 'current' AND parent_key IS NULL AND serial_number IS NOT NULL AND length(serial_number) <= 255;
