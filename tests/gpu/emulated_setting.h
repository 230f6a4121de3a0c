#pragma once

#include <QByteArray>
#include <QtGlobal>

/// Sets a variable of the emulated GPU (emulated/cuda_runtime_api.h) while it lives.
class Setting {
public:
    Setting(const char* name, long long value) : name_(QByteArray("QUANTOSCOPE_EMULATED_") + name) {
        qputenv(name_.constData(), QByteArray::number(value));
    }
    ~Setting() { qunsetenv(name_.constData()); }
    Setting(const Setting&) = delete;
    Setting& operator=(const Setting&) = delete;

private:
    QByteArray name_;
};
